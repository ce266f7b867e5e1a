//! Every public item has an example in its documentation, which `cargo test --doc` runs.

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
