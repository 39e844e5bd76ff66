//! `nearbench validate`: manifests against every rule that needs no chain.

use crate::{
    args,
    exit::{self, Failure},
    manifest, output,
};
use nearbench_core::{Plan, schedule::Schedule};

pub(crate) fn run(args: &args::Validate) -> Result<u8, Failure> {
    let mut code = exit::PASSED;
    for file in &args.files {
        match manifest::load(file, &args.references) {
            Ok(plan) if args.json => output::print_json(&plan)?,
            Ok(plan) => output::print(format!("{}: valid: {}\n", file.display(), describe(&plan)))?,
            Err(failure) => {
                output::error(&failure.error);
                code = failure.code;
            }
        }
    }
    Ok(code)
}

/// What the run would do, in a line.
pub(crate) fn describe(plan: &Plan) -> String {
    let schedule = Schedule::new(&plan.load.phases);
    format!(
        "{} transfers over {}, {} a second at the most, from {} to {} receivers on {}",
        schedule.total(),
        humantime::format_duration(std::time::Duration::from_millis(schedule.duration_ns() / 1_000_000)),
        schedule.target_rate(),
        plan.account.account_id,
        plan.receivers.len(),
        plan.network.chain_id,
    )
}
