//! Opens files and encodes them again: what `recipes/README.md` was measured with.
//!
//!     recipe find FILE RECIPE INNER [ENCODERS]   writes the recipe and the inner stream
//!     recipe make RECIPE INNER FILE [ENCODERS]   writes the file
//!     recipe check ENCODERS FILE…                opens each and sums up
//!
//! Run under `/usr/bin/time -v` for processor time and memory.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use bundle_recipes::{EncoderSet, Limits, Options, Recipe, encode, open};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut out = std::io::stdout().lock();
    match arguments.as_slice() {
        ["find", file, recipe, inner, rest @ ..] => {
            let options = Options {
                limits: limits(rest.first().copied()),
                ..Options::default()
            };
            let bytes = fs::read(file)?;
            let opened = open(&bytes, &options).ok_or("no recipe")?;
            writeln!(out, "{}", describe(&opened.recipe))?;
            fs::write(recipe, opened.recipe.to_bytes())?;
            fs::write(inner, opened.inner)?;
        }
        ["make", recipe, inner, file, rest @ ..] => {
            let recipe = Recipe::parse(&fs::read(recipe)?)?;
            let mut target = BufWriter::new(File::create(file)?);
            encode(
                &recipe,
                BufReader::new(File::open(inner)?),
                &mut target,
                &limits(rest.first().copied()),
            )?;
            target.flush()?;
        }
        ["check", encoders, files @ ..] => {
            let options = Options {
                limits: limits(Some(encoders)),
                ..Options::default()
            };
            let (mut found, mut file_bytes, mut inner, mut recipe) = (0, 0, 0, 0);
            for file in files {
                let bytes = fs::read(file)?;
                match open(&bytes, &options) {
                    Some(opened) => {
                        found += 1;
                        file_bytes += bytes.len();
                        inner += opened.inner.len();
                        recipe += opened.recipe.to_bytes().len();
                    }
                    None => writeln!(out, "no recipe: {file}")?,
                }
            }
            let total = files.len();
            writeln!(
                out,
                "{found} of {total}; {file_bytes} B, inner {inner} B, recipes {recipe} B"
            )?;
        }
        _ => return Err("usage: recipe find|make|check …".into()),
    }
    Ok(())
}

fn limits(encoders: Option<&str>) -> Limits {
    let encoders = encoders.map_or(EncoderSet::none(), |path| {
        EncoderSet::in_directory(Path::new(path))
    });
    Limits {
        encoders,
        threads: 2,
        memory: 4 << 30,
        ..Limits::default()
    }
}

fn describe(recipe: &Recipe) -> String {
    let mut text = format!(
        "{} B of recipe, {} B of memory",
        recipe.to_bytes().len(),
        recipe.memory()
    );
    for part in recipe.parts() {
        let coding = format!("{:?}", part.coding);
        text.push_str(&format!("\n{} -> {}: {coding}", part.inner, part.encoded));
    }
    text
}
