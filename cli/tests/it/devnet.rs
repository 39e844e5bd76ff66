//! `nearbench devnet` as a person meets it: what it refuses leaves nothing behind, what it keeps it goes on with.

use crate::harness::{Ended, Folder};
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

/// A devnet of the binary that serves until a signal, or until the test fails.
pub(crate) struct Serving {
    child: Child,
    stdout: BufReader<ChildStdout>,
    said: String,
}

impl Serving {
    /// `nearbench devnet FLAGS` on a free port and in the folder `home`, unless the flags say otherwise; returns when
    /// it says that it serves.
    pub(crate) fn start(folder: &Folder, flags: &[&str]) -> Result<Self, Ended> {
        let mut command = folder.command(&["devnet"]);
        for (flag, value) in [("--rpc-addr", "127.0.0.1:0"), ("--home", "home")] {
            if !flags.contains(&flag) {
                command.args([flag, value]);
            }
        }
        let mut child = command.args(flags).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut serving = Self { child, stdout, said: String::new() };
        while !serving.said.contains("its key is in") {
            if serving.stdout.read_line(&mut serving.said).unwrap() == 0 {
                return Err(serving.ended());
            }
        }
        Ok(serving)
    }

    /// What it said so far.
    pub(crate) fn said(&self) -> &str {
        &self.said
    }

    /// Sends the signal and waits for the end.
    pub(crate) fn end(self, signal: &str) -> Ended {
        let kill = Command::new("sh").args(["-c", &format!("kill -{signal} {}", self.child.id())]).status().unwrap();
        assert!(kill.success());
        self.ended()
    }

    fn ended(mut self) -> Ended {
        self.stdout.read_to_string(&mut self.said).unwrap();
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let code = self.child.wait().unwrap().code().unwrap();
        Ended { code, stdout: std::mem::take(&mut self.said), stderr }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It ended already where all is well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a devnet ended that must not serve.
fn refused(folder: &Folder, flags: &[&str]) -> Ended {
    match Serving::start(folder, flags) {
        Err(ended) => ended,
        Ok(_) => panic!("{flags:?} is not refused"),
    }
}

/// The number behind `words`.
fn number_after(text: &str, words: &str) -> u64 {
    let rest = text.split_once(words).unwrap_or_else(|| panic!("{words:?} is not in {text:?}")).1;
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn a_wrong_flag_is_named_with_its_value_and_the_way_out_and_nothing_is_made() {
    let folder = Folder::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (flags, code, told) in [
        (["--chain-id", "mainnet"], 2, &["--chain-id", "\"mainnet\"", "devnet or localnet"][..]),
        (["--chain-id", "testnet"], 2, &["--chain-id", "\"testnet\"", "devnet or localnet"]),
        (["--chain-id", "betanet"], 2, &["--chain-id", "\"betanet\"", "devnet or localnet"]),
        (["--chain-id", ""], 2, &["--chain-id", "\"\"", "devnet or localnet"]),
        (["--block-time", "0s"], 2, &["--block-time", "\"0ms\"", "1ms to 1h"]),
        (["--block-time", "2h"], 2, &["--block-time", "\"7200000ms\"", "1ms to 1h"]),
        (["--protocol-version", "83"], 2, &["--protocol-version", "\"83\"", "84 to 88"]),
        (["--epoch-length", "0"], 2, &["--epoch-length", "\"0\"", "43200"]),
        (["--epoch-length", "10"], 2, &["--validity-period", "\"86400\"", "two epochs, here 20"]),
        (["--validity-period", "0"], 2, &["--validity-period", "\"0\""]),
        (["--validity-period", "86401"], 2, &["--validity-period", "\"86401\"", "longer epochs"]),
        (["--keep-epochs", "2"], 2, &["--keep-epochs", "\"2\"", "at least 3"]),
        (["--archival", "a/b"], 2, &["--archival", "\"a/b\"", "archive"]),
        (["--archival", "archive"], 2, &["--archival", "\"archive\"", "how many epochs"]),
        (["--balance", "0 NEAR"], 2, &["--balance", "0 NEAR", "storage", "at least 10 NEAR"]),
        (["--balance", "much"], 2, &["--balance", "much"]),
        (["--account", "A B"], 2, &["--account", "A B"]),
        (["--rpc-addr", &taken], 4, &["--rpc-addr", &taken, "another address"]),
        (["--home", "/dev/null/home"], 4, &["--home", "/dev/null/home"]),
        (["--secret", "/dev/null/secret"], 4, &["--secret", "/dev/null/secret"]),
    ] {
        let ended = refused(&folder, &flags);
        assert_eq!(ended.code, code, "{flags:?}: {ended:?}");
        for words in told {
            assert!(ended.stderr.contains(words), "{flags:?} should tell {words:?}: {}", ended.stderr);
        }
        for rust in
            ["chain_id", "block_time", "protocol_version", "accounts[", "_epochs", "epoch_", "validity_", "archival["]
        {
            assert!(!ended.stderr.contains(rust), "{flags:?}: {}", ended.stderr);
        }
        assert!(is_empty(folder.path()), "{flags:?} left something behind");
    }
}

#[test]
fn a_home_goes_on_where_it_ended_says_so_and_refuses_other_flags() {
    let folder = Folder::new();
    let ended = Serving::start(&folder, &["--block-time", "20ms"]).unwrap().end("INT");
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    assert!(ended.stdout.contains("begins at height 0"), "{ended:?}");
    let height = number_after(&ended.stdout, "ended at height ");

    let ended = Serving::start(&folder, &["--block-time", "20ms"]).unwrap().end("TERM");
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    assert_eq!(number_after(&ended.stdout, "goes on at height "), height);
    let height = number_after(&ended.stdout, "ended at height ");

    let log = folder.path().join("home/chain.log");
    let whole = fs::read(&log).unwrap();
    fs::write(&log, [&whole[..], &[9; 5]].concat()).unwrap();
    let ended = Serving::start(&folder, &["--block-time", "20ms"]).unwrap().end("INT");
    assert_eq!(number_after(&ended.stdout, "goes on at height "), height);
    assert_eq!(number_after(&ended.stderr, "within block "), height + 1);
    assert_eq!(number_after(&ended.stderr, "published: "), 5);

    let whole = fs::read(&log).unwrap();
    for (flags, told) in [
        (["--chain-id", "other"], &["--chain-id devnet", "other"][..]),
        (["--protocol-version", "85"], &["--protocol-version 86", "85"]),
        (["--block-time", "600ms"], &["--block-time 20ms", "600ms"]),
        (["--epoch-length", "50000"], &["--epoch-length 43200", "50000"]),
        (["--validity-period", "100"], &["--validity-period 86400", "100"]),
        (["--keep-epochs", "5"], &["--keep-epochs everything", "5"]),
        (["--balance", "50 NEAR"], &["--balance \"1000000000 NEAR\"", "50 NEAR"]),
        (["--account", "x.near"], &["--account test.near", "x.near"]),
        (["--secret", "elsewhere"], &["--secret", "elsewhere/nearbench-account.json is not there", "ed25519:"]),
    ] {
        let same = if flags.contains(&"--block-time") { vec![] } else { vec!["--block-time", "20ms"] };
        let ended = refused(&folder, &[&flags[..], &same].concat());
        assert_eq!(ended.code, 2, "{flags:?}: {ended:?}");
        for words in told.iter().chain(&["--home home", "another --home"]) {
            assert!(ended.stderr.contains(words), "{flags:?} should tell {words:?}: {}", ended.stderr);
        }
    }
    assert_eq!(fs::read(&log).unwrap(), whole);
    let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["home", "secrets"], "no other key was made");
}

#[test]
fn a_home_that_another_process_has_open_is_refused() {
    let folder = Folder::new();
    let serving = Serving::start(&folder, &[]).unwrap();
    let ended = refused(&folder, &[]);
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.stderr.contains("--home") && ended.stderr.contains("another process"), "{}", ended.stderr);
    assert_eq!(serving.end("TERM").code, 0);
}
