use manyhands::Process;

fn length(text: &str) -> usize {
    text.len()
}

fn main() {
    let text = String::from("hands");
    let _ = Process::spawn(length, text.as_str());
}
