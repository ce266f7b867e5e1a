//! The API as users see it: every public item has an example, which `cargo test --doc` runs, and none
//! changes unnoticed.

use std::path::{Path, PathBuf};

/// Source files of the API: not of the engine, which is no part of it.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.file_name().unwrap().to_str().unwrap() {
            "engine" | "fuzzing.rs" => {}
            _ if path.is_dir() => found.extend(sources(&path)),
            _ => found.push(path),
        }
    }
    found
}

/// Whether a line begins something that users of the crate see.
fn is_public_item(line: &str) -> bool {
    let kinds = [
        "fn ",
        "const ",
        "async fn ",
        "struct ",
        "enum ",
        "trait ",
        "type ",
    ];
    line.trim_start()
        .strip_prefix("pub ")
        .is_some_and(|rest| kinds.iter().any(|kind| rest.starts_with(kind)))
}

#[test]
fn every_public_item_has_an_example() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut items, mut bare) = (0, Vec::new());
    for path in sources(&folder) {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines
            .iter()
            .enumerate()
            .filter(|(_, line)| is_public_item(line))
        {
            items += 1;
            let mut above = lines[..at]
                .iter()
                .rev()
                .map(|line| line.trim_start())
                .take_while(|line| line.starts_with("///") || line.starts_with('#'));
            if !above.any(|line| line.starts_with("/// ```")) {
                bare.push(format!("{}:{}: {}", path.display(), at + 1, line.trim()));
            }
        }
    }
    assert!(
        items > 130,
        "only {items} items were found: does this look at the right place?"
    );
    assert!(bare.is_empty(), "without an example:\n{}", bare.join("\n"));
}

/// A public item in one line, without its body and without what rustfmt does to it.
fn signature(lines: &[&str]) -> String {
    let mut text = String::new();
    for line in lines {
        let line = line.trim();
        // A body, or the fields of a struct: what begins there is no part of the line.
        if line == "{" {
            break;
        }
        text.push_str(line);
        text.push(' ');
        if line.ends_with(['{', ';']) {
            break;
        }
    }
    let text = text.trim().trim_end_matches(['{', ';']);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.replace("( ", "(")
        .replace(", )", ")")
        .replace("< ", "<")
}

/// What `tests/api.txt` holds: the public items of each file, in its order.
fn listed() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = sources(&folder);
    paths.sort();
    let mut list = String::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let items: Vec<String> = (0..lines.len())
            .filter(|at| is_public_item(lines[*at]) || is_export(lines[*at]))
            .map(|at| signature(&lines[at..]))
            .collect();
        if !items.is_empty() {
            let name = path.strip_prefix(&folder).unwrap().display();
            list.push_str(&format!("# {name}\n{}\n\n", items.join("\n")));
        }
    }
    list
}

/// Whether a line of the crate's root exports something.
fn is_export(line: &str) -> bool {
    line.starts_with("pub use ")
}

#[test]
fn the_api_is_the_one_that_is_listed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api.txt");
    let now = listed();
    if std::env::var_os("UPDATE_API").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let then = std::fs::read_to_string(&path).unwrap_or_default();
    let gone: Vec<_> = then
        .lines()
        .filter(|line| !now.lines().any(|other| other == *line))
        .collect();
    let new: Vec<_> = now
        .lines()
        .filter(|line| !then.lines().any(|other| other == *line))
        .collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "the API has changed; what is gone breaks programs and needs a new major version (a minor one before 1.0), what \
         is new a minor one. Write it in CHANGELOG.md, and run this test with UPDATE_API=1.\ngone:\n  {}\nnew:\n  {}",
        gone.join("\n  "),
        new.join("\n  "),
    );
    assert_eq!(
        then, now,
        "the list is in another order: run this test with UPDATE_API=1"
    );
}
