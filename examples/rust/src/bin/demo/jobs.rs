//! The two jobs: one that computes, one that waits; and the server that lets it wait.

use crate::scanner::{self, Counts};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

/// Scans one file. A file that cannot be read counts as empty.
pub(crate) fn scan(path: String) -> Counts {
    scanner::scan(&std::fs::read(path).unwrap_or_default())
}

/// Asks one question, (port, number), and checks that the answer belongs to it.
pub(crate) fn ask((port, number): (u16, u64)) -> Counts {
    let answer = || -> io::Result<u64> {
        let mut connection = TcpStream::connect(("127.0.0.1", port))?;
        writeln!(connection, "{number}")?;
        let mut line = String::new();
        BufReader::new(connection).read_line(&mut line)?;
        line.trim().parse().map_err(io::Error::other)
    };
    let answer = answer().expect("the server of this demo answers every question with its number");
    Counts {
        lines: 1,
        names: answer,
        ..Counts::default()
    }
}

/// A task without work: what is left is the cost of handing it over and getting it back.
pub(crate) fn nothing((): ()) {}

/// All files that end in `.py` below `folder`, sorted; packages that were installed are left out.
pub(crate) fn source_files(folder: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            if entry.file_type()?.is_dir() {
                if !["site-packages", "dist-packages", "__pycache__"]
                    .iter()
                    .any(|other| name == *other)
                {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "py") {
                found.extend(path.to_str().map(str::to_owned));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Starts a server in threads of this process, which answers each question after `delay`; returns its port.
pub(crate) fn slow_server(delay: Duration) -> io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let answer = move |connection: TcpStream| -> io::Result<()> {
        let mut question = String::new();
        BufReader::new(&connection).read_line(&mut question)?;
        thread::sleep(delay);
        (&connection).write_all(question.as_bytes())
    };
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            thread::spawn(move || answer(connection));
        }
    });
    Ok(port)
}
