//! `nearbench token`: who may use the transfer API.

use crate::{
    args,
    exit::{self, Failure},
    output,
};
use anyhow::{Context, anyhow};
use nearbench_near::SecretText;
use nearbench_worker::{Grant, Tokens};
use rand::Rng;
use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Makes a token, keeps its hash, and prints it: it is not seen again.
pub(crate) fn run(args: args::Token) -> Result<u8, Failure> {
    let args::Token { name, file, scopes, requests_per_second, daily_cap } = args;
    let grant = Grant { name, scopes, requests_per_second, daily_cap };
    let (token, line) = grant.token(rand::rng().random()).map_err(Failure::input)?;
    append(&file, &line)?;
    output::print(format!("{}\n", token.expose()))?;
    output::note(&format!(
        "{}: the hash of this token was added; the token itself is kept nowhere. Workers that run read the file when they \
         start",
        file.display()
    ));
    Ok(exit::PASSED)
}

fn append(file: &Path, line: &str) -> Result<(), Failure> {
    let context = || file.display().to_string();
    // What is there is read first: it must be nobody else's to read, and hold no token of this name.
    let before = match File::open(file) {
        Ok(_) => SecretText::read(file).map_err(Failure::input)?,
        Err(error) if error.kind() == ErrorKind::NotFound => SecretText::new(String::new()),
        Err(error) => return Err(Failure::input(anyhow!(error).context(context()))),
    };
    // A last line without its end is ended; an empty one means nothing.
    let start = if before.expose().is_empty() { "" } else { "\n" };
    Tokens::parse(&format!("{}{start}{line}\n", before.expose())).with_context(context).map_err(Failure::input)?;
    let add = || {
        let mut opened = OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
        opened.write_all(format!("{start}{line}\n").as_bytes())?;
        opened.sync_all()
    };
    add().with_context(context).map_err(Failure::run)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nearbench_worker::Scope;
    use std::{fs, os::unix::fs::PermissionsExt};

    fn line(name: &str) -> (SecretText, String) {
        let grant = Grant { name: name.into(), scopes: vec![Scope::Read], requests_per_second: None, daily_cap: None };
        grant.token(rand::rng().random()).unwrap()
    }

    #[test]
    fn the_file_is_the_owners_alone_and_holds_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens");
        let (first, text) = line("first");
        append(&file, &text).unwrap();
        append(&file, &line("second").1).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains(first.expose()) && !text.contains(&first.expose()[4..]));
        assert_eq!(format!("{:?}", Tokens::read(&file).unwrap()), r#"["first", "second"]"#);
        assert_eq!(append(&file, &line("first").1).unwrap_err().code, exit::BAD_INPUT, "the name is taken");
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let error = append(&file, &line("third").1).unwrap_err().error.to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_last_line_without_its_end_is_left_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens");
        append(&file, &line("first").1).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.trim_end()).unwrap();
        append(&file, &line("second").1).unwrap();
        assert_eq!(format!("{:?}", Tokens::read(&file).unwrap()), r#"["first", "second"]"#);
    }
}
