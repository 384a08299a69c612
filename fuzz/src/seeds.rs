//! Writes the files that fuzzing begins with: `fuzz_seeds FOLDER`.

fn main() -> std::io::Result<()> {
    let root = std::env::args_os().nth(1).expect("a folder");
    lorascope_fuzz::seeds(root.as_ref())
}
