//! Ctrl-C and SIGTERM: the first asks for an orderly end, the second ends the process.

use crate::{
    exit::{self, Failure},
    output,
    signal::Ended,
};
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// Cancelled by the first, which `first` is the answer to; `None`: whoever works says what it leads to. The second names
/// `keys` if that file is there by then, and `way_out` of it.
pub(crate) fn watch(
    keys: PathBuf,
    way_out: &'static str,
    first: Option<&'static str>,
) -> Result<CancellationToken, Failure> {
    let interrupt = CancellationToken::new();
    let token = interrupt.clone();
    let mut ended = Ended::listen().map_err(Failure::run)?;
    tokio::spawn(async move {
        ended.next().await;
        token.cancel();
        first.into_iter().for_each(output::note);
        ended.next().await;
        if keys.exists() {
            output::note(&left_behind(&keys, way_out));
        }
        std::process::exit(exit::INCONCLUSIVE.into());
    });
    Ok(interrupt)
}

/// What is told of a key file whose keys may be on chain.
pub(crate) fn left_behind(keys: &std::path::Path, way_out: &str) -> String {
    format!("{} is left, and its access keys may be on the account: {way_out}", keys.display())
}
