//! Puts the built pages (`src/page/dist`, made by Vite) into the binary: writes a table of their names and bytes, which
//! `origin::library::player` includes. Where they were not built the table is empty, and the edge serves its plain pages.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo names the package's folder"));
    let built = root.join("src/page/dist");
    // The folder is always there (git keeps it), so that cargo need not guess whether it will be.
    println!("cargo::rerun-if-changed=src/page/dist");
    println!("cargo::rerun-if-changed=src/page/build.rs");
    let mut table = String::from("pub static FILES: &[(&str, &[u8])] = &[\n");
    if built.join("index.html").is_file() && built.join("watch/index.html").is_file() {
        for name in names(&built, "")? {
            let path = built.join(&name);
            let path = path.to_str().expect("the package lies at a path of UTF-8");
            writeln!(table, "    ({name:?}, include_bytes!({path:?})),").expect("a string takes all");
        }
    } else {
        println!(
            "cargo::warning=built without the player page: run `npm ci && npm run build` in src/page, and build again"
        );
    }
    table.push_str("];\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names the output's folder"));
    fs::write(out.join("page.rs"), table)
}

/// The files below a folder by name, `_page/x.js`, in order.
fn names(folder: &Path, prefix: &str) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|name| io::Error::other(format!("{name:?} is no UTF-8")))?;
        let (is_folder, name) = (entry.file_type()?.is_dir(), format!("{prefix}{name}"));
        if is_folder {
            found.extend(names(&entry.path(), &format!("{name}/"))?);
        } else if !name.starts_with('.') {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}
