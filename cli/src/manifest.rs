//! From a file to a plan, with what a run in one process adds to its rules.

use crate::{
    args::{On, References},
    exit::Failure,
};
use anyhow::{Context, anyhow};
use nearbench_core::Plan;
use nearbench_crds::BenchmarkRun;
use nearbench_operator::PLAN;
use std::{fs, io::Read, path::Path};

/// The plan of the manifest in `file`; `-` is standard input.
pub(crate) fn load(file: &Path, references: &References) -> Result<Plan, Failure> {
    read(file, references).map(|(_, plan)| plan)
}

fn read(file: &Path, references: &References) -> Result<(BenchmarkRun, Plan), Failure> {
    let name = file.display().to_string();
    let text = if name == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(file)
    };
    let text = text.with_context(|| format!("cannot read the manifest {name}")).map_err(Failure::input)?;
    let run = nearbench_crds::parse(&text).with_context(|| name.clone()).map_err(Failure::input)?;
    let resolve = nearbench_crds::Resolve {
        on_devnet: references.on == Some(On::Devnet),
        config_map: &|name| fs::read_to_string(references.configmaps.join(name).join("nearbench-accounts")).ok(),
    };
    let plan = nearbench_crds::plan(&run, &resolve).map_err(|violations| {
        let lines: Vec<_> = violations.iter().map(|violation| format!("\n  {violation}")).collect();
        Failure::input(anyhow!("{name} cannot be run:{}", lines.concat()))
    })?;
    Ok((run, plan))
}

/// The plan of a manifest that one process is to run: what it may ask for and a process alone cannot do is refused, since
/// a run that ignored it would be another one than was asked for.
pub(crate) fn load_for_one_process(file: &Path, references: &References) -> Result<Plan, Failure> {
    let (run, plan) = read(file, references)?;
    let wrong = if run.spec.stop {
        "spec.stop: true ends a run that is under way in a cluster; remove it to run here, and end a run with Ctrl-C"
    } else if run.spec.suspend {
        "spec.suspend: true holds a run in a cluster; remove it to run here"
    } else {
        nearbench_crds::one_process(&plan).map_err(|violation| Failure::input(anyhow!("{violation}")))?;
        return Ok(plan);
    };
    Err(Failure::input(anyhow!("{wrong}")))
}

/// The plan that was resolved elsewhere, in `folder`.
pub(crate) fn load_plan(folder: &Path) -> Result<Plan, Failure> {
    let (plain, packed) = (folder.join(PLAN), folder.join(format!("{PLAN}.gz")));
    let path = if packed.exists() { packed } else { plain };
    let bytes = fs::read(&path);
    let text = match path.extension() {
        Some(extension) if extension == "gz" => bytes.and_then(|bytes| nearbench_operator::inflate(&bytes)),
        _ => bytes.and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other)),
    };
    let text = text.with_context(|| format!("--plan: cannot read {}", path.display())).map_err(Failure::input)?;
    let plan = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(&text));
    plan.with_context(|| format!("--plan: {} is no plan of this version", path.display())).map_err(Failure::input)
}
