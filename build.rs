//! How the program is linked: what a running agent calls lies together, and few relocations are left for its start.
//!
//! The kernel maps a program's pages 16 at a time. What runs all day is a third of this program, scattered over all of it,
//! so that nearly all of it was resident. `packaging/functions-of-a-run` lists what runs; a function that it does not know,
//! or knows by an older name, is where it was before. A linker that does not take this links as ever.

#![expect(clippy::disallowed_methods, reason = "files that cargo makes anew need not outlive a loss of power")]

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

const LIST: &str = "packaging/functions-of-a-run";
/// Leaves the program as the linker makes it: whoever makes the list anew needs one.
const UNORDERED: &str = "HAPILOT_UNORDERED";

fn main() {
    println!("cargo:rerun-if-changed={LIST}");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed={UNORDERED}");
    if env::var("PROFILE").as_deref() != Ok("release") || env::var_os(UNORDERED).is_some() {
        return;
    }
    let Some(out) = env::var_os("OUT_DIR").map(PathBuf::from) else { return };
    let Ok(list) = fs::read_to_string(LIST) else { return };
    let script = out.join("order.ld");
    let probe = Probe { source: out.join("probe.rs"), program: out.join("probe") };
    let is_written = fs::write(&script, sections(&list)).and_then(|()| fs::write(&probe.source, "fn main() {}\n"));
    if is_written.is_err() {
        return;
    }
    let order = format!("-T{}", script.display());
    // A C library from before 2.36 cannot read them.
    let packed = "-Wl,-z,pack-relative-relocs";
    let is_native = env::var_os("HOST") == env::var_os("TARGET");
    if probe.links(&order) {
        println!("cargo:rustc-link-arg-bin=hapilot={order}");
    } else {
        println!("cargo:warning=this linker lays no functions together: the program will need some megabytes more");
    }
    if is_native && probe.links(packed) && probe.runs() {
        println!("cargo:rustc-link-arg-bin=hapilot={packed}");
    }
}

/// What tells the linker to lay these functions together, each in whichever section the compiler has put it.
fn sections(list: &str) -> String {
    let names = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let lines: String = names.map(|name| format!("    *(.text.{name} .text.unlikely.{name})\n")).collect();
    format!("SECTIONS {{\n  .text.run : {{\n{lines}  }}\n}}\nINSERT BEFORE .text;\n")
}

/// A program of nothing, which tells what the linker of this build takes.
struct Probe {
    source: PathBuf,
    program: PathBuf,
}

impl Probe {
    fn links(&self, argument: &str) -> bool {
        let _ = fs::remove_file(&self.program);
        let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
        let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.args(flags.split('\x1f').filter(|flag| !flag.is_empty()));
        if let Ok(target) = env::var("TARGET") {
            rustc.args(["--target", &target]);
        }
        if let Ok(linker) = env::var("RUSTC_LINKER") {
            rustc.args(["-C", &format!("linker={linker}")]);
        }
        rustc.args(["-C", &format!("link-arg={argument}"), "-o"]).arg(&self.program).arg(&self.source);
        ends_well(&mut rustc) && self.program.exists()
    }

    fn runs(&self) -> bool {
        ends_well(&mut Command::new(&self.program))
    }
}

fn ends_well(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
