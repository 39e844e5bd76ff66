//! `nearbench compare`: runs beside the one that they are measured by.

use crate::{
    args::{self, CompareFormat},
    exit::{self, Failure},
    format::comparison::{self, Compared, Side},
    output, page, report,
};
use nearbench_core::compare::{Outcome, compare};

pub(crate) async fn run(args: args::Compare) -> Result<u8, Failure> {
    let namespace = args.namespace.as_deref();
    let (source, base) = report::load(&args.base, namespace).await?;
    let side = Side::new(source, &base);
    let mut reports = vec![base];
    let mut compared = Vec::with_capacity(args.new.len());
    // All are read before anything is printed.
    for path in &args.new {
        let (source, new) = report::load(path, namespace).await?;
        let comparison = compare(&reports[0], &new, args.tolerance);
        compared.push(Compared { new: Side::new(source, &new), comparison });
        reports.push(new);
    }
    match (&args.html, args.format) {
        (Some(file), _) => {
            page::write_comparison(file, &comparison::page(&side, &compared, args.tolerance, &reports))?;
            output::note(&format!("{} is written", file.display()));
        }
        (None, CompareFormat::Table) => output::print(comparison::table(&side, &compared, args.tolerance))?,
        (None, CompareFormat::Md) => output::print(comparison::markdown(&side, &compared, args.tolerance))?,
        (None, CompareFormat::Json) => output::print_json(&comparison::json(&side, &compared, args.tolerance))?,
    }
    let any = |outcome| compared.iter().any(|compared| compared.comparison.outcome == outcome);
    // What one of several new runs proves is not undone by another that says nothing.
    Ok(if any(Outcome::Regression) {
        exit::FAILED
    } else if any(Outcome::NoResult) {
        exit::INCONCLUSIVE
    } else {
        exit::PASSED
    })
}
