//! From a file to a plan, with what a run in one process adds to its rules.

use crate::{
    args::{Elsewhere, References},
    exit::Failure,
};
use anyhow::{Context, anyhow};
use nearbench_core::Plan;
use nearbench_crds::{BenchmarkRun, Violation};
pub(crate) use nearbench_operator::PLAN;
use std::{fs, io::Read, path::Path};

/// A manifest that is valid.
pub(crate) struct Manifest {
    pub(crate) plan: Plan,
    /// What a cluster can do and one process cannot, as `FIELD: reason and way out`.
    pub(crate) cluster_only: Vec<String>,
    /// What the run does that the manifest does not say.
    pub(crate) remarks: Vec<String>,
}

impl Manifest {
    /// Reads the manifest in `file`; `-` is standard input.
    pub(crate) fn load(file: &Path, references: &References, elsewhere: Option<Elsewhere>) -> Result<Self, Failure> {
        let name = file.display().to_string();
        let refused = |faults: &[Violation]| {
            let lines: Vec<_> = faults.iter().map(|fault| format!("\n  {fault}")).collect();
            Failure::input(anyhow!("{name} cannot be run:{}", lines.concat()))
        };
        let text = read(file)?;
        let run = nearbench_crds::parse(&text).map_err(|error| refused(&error.0))?;
        let resolve = nearbench_crds::Resolve {
            on_devnet: elsewhere.is_some_and(|elsewhere| elsewhere.on.is_some()),
            config_map: &|name| {
                fs::read_to_string(references.configmaps.join(name).join(nearbench_crds::ACCOUNTS_KEY)).ok()
            },
        };
        let plan = nearbench_crds::plan(&run, &resolve).map_err(|faults| refused(&faults))?;
        let mut remarks = Vec::new();
        if run.spec.token.deploy.is_none() && plan.token.deploy.is_some() {
            let token = &plan.token.contract_id;
            remarks.push(format!("the manifest deploys no token: nearbench's own stands in for {token} on devnet"));
        }
        Ok(Self { cluster_only: cluster_only(&run, &plan), remarks, plan })
    }

    /// The manifest, to be run by one process: what it may ask for and a process alone cannot do is refused, since a
    /// run that ignored it would be another one than was asked for.
    pub(crate) fn for_one_process(self) -> Result<Self, Failure> {
        if self.cluster_only.is_empty() {
            return Ok(self);
        }
        Err(Failure::input(anyhow!("this needs a cluster: {}", self.cluster_only.join("; "))))
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    let name = file.display();
    if file.is_dir() {
        return Err(Failure::input(anyhow!("{name} is a folder: name the manifest in it")));
    }
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes).map(drop)
    } else {
        fs::read(file).map(|read| bytes = read)
    };
    read.with_context(|| format!("cannot read the manifest {name}")).map_err(Failure::input)?;
    String::from_utf8(bytes).map_err(|_| {
        Failure::input(anyhow!("{name} is not UTF-8 text: is it the manifest? Save it as UTF-8, in YAML or JSON"))
    })
}

fn cluster_only(run: &BenchmarkRun, plan: &Plan) -> Vec<String> {
    let controls = [
        (run.spec.stop, "spec.stop: it ends a run that is under way; remove it, and end a run here with Ctrl-C"),
        (run.spec.suspend, "spec.suspend: it holds a run in a cluster; remove it"),
    ];
    let controls = controls.iter().filter(|(asked, _)| *asked).map(|(_, refusal)| (*refusal).to_owned());
    // Worker processes on a Redis are within reach of one machine, and so is its own API.
    let here = |path: &str| matches!(path, "spec.store" | "spec.load.via");
    let beyond = nearbench_crds::one_process(plan).into_iter().filter(|rule| !here(&rule.path));
    controls.chain(beyond.map(|rule| rule.to_string())).collect()
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
