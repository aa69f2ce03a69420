//! Golden layer deltas of SPEC 10: what was accepted once stays accepted, and each defect is refused.
//!
//! With `BUNDLE_WRITE_VECTORS=1` they are made again; that needs gcc and xz, and is for a new version of the format only.

#![cfg(feature = "export")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[path = "common/archive.rs"]
mod archive;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bundle::delta::{Layer, Options, Spool, SpoolStore, make};
use bundle::progress::Silent;
use bundle_delta::header::Header;
use bundle_delta::rebuild::rebuild;
use bundle_delta::{DeltaError, program, streams};

use archive::{Files, cpio, filter};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bundle-format/vectors/deltas")
}

fn read(name: &str) -> Vec<u8> {
    let path = directory().join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn spool(bytes: &[u8]) -> Spool {
    Spool::read(bytes, &std::env::temp_dir()).unwrap()
}

fn rebuilt(delta: &[u8], old: &Spool) -> Result<Vec<u8>, DeltaError> {
    let mut input = delta;
    let header = Header::read(&mut input, &Default::default())?;
    let layers = [Layer {
        spool: old,
        target: None,
    }];
    let store = SpoolStore::new(&header, &layers, &Options::default());
    if store.missing().next().is_some() {
        return Err(DeltaError::WrongTarget);
    }
    let mut out = Vec::new();
    rebuild(&header, input, &store, &mut out, &Default::default())?;
    Ok(out)
}

#[test]
fn vectors_give_their_verdicts() {
    if std::env::var_os("BUNDLE_WRITE_VECTORS").is_some() {
        write();
    }
    let (old, new) = (spool(&read("old.tar")), read("new.tar"));
    let index = String::from_utf8(read("INDEX")).unwrap();
    let mut verdicts = [0, 0];
    for line in index.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_once(' ').unwrap();
        let (verdict, defect) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
        let result = rebuilt(&read(name), &old);
        match verdict {
            "accepted" => assert!(result.unwrap() == new, "{name}"),
            _ => assert!(result.is_err(), "{name}: {defect}"),
        }
        verdicts[usize::from(verdict == "accepted")] += 1;
    }
    assert!(verdicts[0] >= 10 && verdicts[1] >= 2, "{verdicts:?}");
}

/// Compiles a file of C to an object, or to a library linked at addresses of its own.
fn compiled(source: &str, arguments: &[&str]) -> Vec<u8> {
    let work = tempfile::tempdir().unwrap();
    let (from, to) = (work.path().join("a.c"), work.path().join("a.out"));
    fs::write(&from, source).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(["-O1", "-nostdlib", "-fPIC"]).args(arguments);
    assert!(
        gcc.arg(&from)
            .arg("-o")
            .arg(&to)
            .status()
            .unwrap()
            .success()
    );
    fs::read(&to).unwrap()
}

fn functions(extra: &str) -> String {
    let functions = (0..12).map(|number| {
        format!(
            "int value{number} = {number};\n\
             __attribute__((noinline)) int f{number}(int x) {{ {} return other{number}(x + value{number}) * {number}; }}\n",
            if number == 3 { extra } else { "" }
        )
    });
    let calls: String = (0..12)
        .map(|number| format!("x += f{number}(x);"))
        .collect();
    let functions: String = functions.collect();
    let others: String = (0..12)
        .map(|number| format!("extern int other{number}(int);"))
        .collect();
    format!("{others} extern int value5; {functions} int all(int x) {{ {calls} return x; }}")
}

fn tree(release: &str, extra: &str) -> Files {
    let file = |path: &str, bytes: Vec<u8>| (path.to_string(), bytes);
    let object = compiled(&functions(extra), &["-c"]);
    let library = compiled(
        &functions(extra),
        &["-shared", "-Wl,--unresolved-symbols=ignore-all"],
    );
    let text: String = (0..200)
        .map(|line| format!("line {line} of a text\n"))
        .collect();
    let modules = vec![
        file("kernel/module.ko", object.clone()),
        file("init", b"#!/bin/sh\n".to_vec()),
    ];
    let xz = ["--check=crc32", "--lzma2=dict=1MiB", "-c"];
    vec![
        file("usr/share/same", text.clone().into_bytes()),
        file(
            "usr/share/text",
            text.replace("line 77 ", &format!("line {release} "))
                .into_bytes(),
        ),
        file(&format!("usr/lib/modules/{release}/module.ko"), object),
        file(&format!("usr/lib/libf.so.{release}"), library),
        file(
            &format!("usr/lib/modules/{release}/initramfs.img"),
            filter("xz", &xz, &cpio(&modules)),
        ),
    ]
}

fn tar(files: &Files) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, path, bytes.as_slice())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

/// The windows of a delta, to be changed and packed anew without compression.
struct Open {
    header: Header,
    windows: Vec<Vec<Vec<u8>>>,
}

impl Open {
    fn of(delta: &[u8]) -> Self {
        let mut input = delta;
        let header = Header::read(&mut input, &Default::default()).unwrap();
        let mut reader = streams::Reader::new(input, &Default::default()).unwrap();
        let mut windows = Vec::new();
        while let Some(window) = reader.next_window().unwrap() {
            windows.push(
                (0..program::STREAMS)
                    .map(|stream| window.rest(stream).to_vec())
                    .collect(),
            );
        }
        Self { header, windows }
    }

    fn pack(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.header.write(&mut out, 1).unwrap();
        let mut writer = streams::Writer::new(out, &[1 << 20; program::STREAMS], 1).unwrap();
        for window in &self.windows {
            for (to, from) in writer.streams().iter_mut().zip(window) {
                to.extend_from_slice(from);
            }
            writer.end_window().unwrap();
        }
        writer.finish().unwrap()
    }

    fn edited(good: &[u8], edit: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut open = Self::of(good);
        edit(&mut open);
        open.pack()
    }
}

fn write() {
    let directory = directory();
    fs::create_dir_all(&directory).unwrap();
    let old = tar(&tree("1.0", ""));
    let mut files = tree("1.1", "x ^= value5 << 3; x += other7(x);");
    let again = files[1].1.repeat(5);
    files.push(("usr/share/new".into(), again.clone()));
    files.push(("usr/share/new-again".into(), again));
    let new = tar(&files);
    let (old_layer, new_layer) = (spool(&old), spool(&new));
    let layers = [Layer {
        spool: &old_layer,
        target: None,
    }];
    let with = |window| {
        let options = Options {
            window,
            ..Options::default()
        };
        let mut delta = Vec::new();
        make(&new_layer, &layers, &options, &Silent, &mut delta).unwrap();
        delta
    };
    let good = with(8 << 20);
    let stream = |window: &mut Open, number: usize, edit: &dyn Fn(&mut Vec<u8>)| {
        edit(&mut window.windows[0][number]);
    };
    let mut vectors: BTreeMap<&str, (&str, Vec<u8>)> = BTreeMap::new();
    vectors.insert("accepted.delta", ("", good.clone()));
    vectors.insert("accepted-windows.delta", ("", with(2000)));
    vectors.insert("accepted-bare.delta", ("", Open::of(&good).pack()));
    let mut refuse = |name: &'static str, defect: &'static str, bytes: Vec<u8>| {
        assert!(rebuilt(&bytes, &old_layer).is_err(), "{name} is accepted");
        vectors.insert(name, (defect, bytes));
    };
    let magic = [b"bndlDLT2", &good[8..]].concat();
    refuse("magic.delta", "10.2.2: another magic", magic);
    refuse(
        "cut.delta",
        "10.4.1: the end is missing",
        good[..good.len() - 1].to_vec(),
    );
    refuse(
        "behind.delta",
        "10.4.1: a byte behind the end",
        [good.as_slice(), b"x"].concat(),
    );
    refuse(
        "hash.delta",
        "10.2.2: another hash of the target",
        Open::edited(&good, |open| open.header.target_hash[0] ^= 1),
    );
    refuse(
        "size.delta",
        "10.3.5: the target is larger than said",
        Open::edited(&good, |open| open.header.target_size -= 1),
    );
    refuse(
        "objects.delta",
        "10.3.5: more objects than declared",
        Open::edited(&good, |open| open.header.scratch -= 1),
    );
    refuse(
        "source.delta",
        "10.3.5: an input that is not there",
        Open::edited(&good, |open| {
            open.header.sources.truncate(1);
        }),
    );
    refuse(
        "operation.delta",
        "10.3.1: an unknown operation",
        Open::edited(&good, |open| {
            stream(open, program::CONTROL, &|bytes| bytes[0] = 10);
        }),
    );
    refuse(
        "left-over.delta",
        "10.3.5: a byte left over",
        Open::edited(&good, |open| {
            stream(open, program::FRAME, &|bytes| bytes.push(0));
        }),
    );
    refuse(
        "short.delta",
        "10.4.3: new data ends early",
        Open::edited(&good, |open| {
            stream(open, bundle_delta::codec::DATA, &|bytes| {
                bytes.pop();
            });
        }),
    );
    refuse(
        "zero.delta",
        "10.5.3: a difference of zero",
        Open::edited(&good, |open| {
            stream(open, bundle_delta::codec::VALUES, &|bytes| bytes[0] = 0);
        }),
    );
    refuse(
        "copy.delta",
        "10.5.2: a copy outside of the old file",
        Open::edited(&good, |open| {
            stream(open, bundle_delta::codec::COPIES, &|bytes| bytes[1] = 0x7f);
        }),
    );
    let mut index =
        String::from("# Layer deltas from old.tar to new.tar (SPEC 10): file, verdict, defect.\n");
    for (name, (defect, bytes)) in vectors {
        fs::write(directory.join(name), bytes).unwrap();
        let verdict = if defect.is_empty() {
            "accepted"
        } else {
            "refused"
        };
        index += format!("{name} {verdict} {defect}").trim_end();
        index.push('\n');
    }
    for (name, bytes) in [
        ("old.tar", old),
        ("new.tar", new),
        ("INDEX", index.into_bytes()),
    ] {
        fs::write(directory.join(name), bytes).unwrap();
    }
}
