use manyhands::Process;

struct Handle(*mut u8);

fn is_null(handle: Handle) -> bool {
    handle.0.is_null()
}

fn main() {
    let _ = Process::spawn(is_null, Handle(std::ptr::null_mut()));
}
