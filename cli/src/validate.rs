//! `nearbench validate`: manifests against every rule that needs no chain.

use crate::{
    args,
    exit::{self, Failure},
    manifest::Manifest,
    output, secrets,
};
use nearbench_core::{
    Plan,
    schedule::{Schedule, target_rate},
};
use std::path::Path;

pub(crate) fn run(args: &args::Validate) -> Result<u8, Failure> {
    let (mut code, mut plans) = (exit::PASSED, Vec::new());
    for file in &args.files {
        match check(args, file) {
            Ok(manifest) => {
                if !args.json {
                    output::print(valid(file, &manifest))?;
                }
                plans.push(manifest.plan);
            }
            Err(failure) => {
                output::error(&failure.error);
                code = failure.code;
            }
        }
    }
    if args.json {
        match (&plans[..], args.files.len()) {
            ([plan], 1) => output::print_json(plan)?,
            ([], 1) => {}
            _ => output::print_json(&plans)?,
        }
    }
    Ok(code)
}

fn check(args: &args::Validate, file: &Path) -> Result<Manifest, Failure> {
    let manifest = Manifest::load(file, &args.references, Some(args.elsewhere))?;
    let absent = secrets::check(&manifest.plan, &args.references.secrets)
        .map_err(|failure| Failure { error: failure.error.context(file.display().to_string()), ..failure })?;
    for remark in &manifest.remarks {
        output::note(&format!("{}: note: {remark}", file.display()));
    }
    for secret in &absent {
        output::note(&format!(
            "{}: note: {secret}; the Secret must be in the cluster, or here for a run",
            file.display()
        ));
    }
    Ok(manifest)
}

fn valid(file: &Path, manifest: &Manifest) -> String {
    let (file, what) = (file.display(), describe(&manifest.plan));
    let mut text = match &manifest.cluster_only[..] {
        [] => format!("{file}: valid: {what}\n"),
        _ => format!("{file}: valid; `nearbench run` refuses it here: {what}\n"),
    };
    for refusal in &manifest.cluster_only {
        text.push_str(&format!("  {refusal}\n"));
    }
    text
}

/// What the run would do, in a line.
pub(crate) fn describe(plan: &Plan) -> String {
    let schedule = Schedule::new(&plan.load.phases);
    format!(
        "{} transfers over {}, {} a second at the most, from {} to {} receivers on {}",
        schedule.total(),
        humantime::format_duration(std::time::Duration::from_millis(schedule.duration_ns() / 1_000_000)),
        target_rate(&plan.load.phases),
        plan.account.account_id,
        plan.receivers.len(),
        chain(plan),
    )
}

fn chain(plan: &Plan) -> String {
    let profile = format!("{:?}", plan.network.profile).to_lowercase();
    match plan.network.chain_id.as_str() {
        id if id == profile => profile,
        "devnet" => format!("devnet, in place of {profile}"),
        id => format!("{profile} (chain id {id})"),
    }
}
