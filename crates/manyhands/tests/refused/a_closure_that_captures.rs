use manyhands::Process;

fn main() {
    let factor = 3;
    let _ = Process::spawn(|x: u64| x * factor, 14);
}
