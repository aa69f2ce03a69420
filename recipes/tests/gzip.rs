//! gzip of real programs, and gzip at its edges.
//!
//! Needs gzip, pigz and python3 with its zlib; a missing one fails the test by name.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it was at"
)]

mod common;

use bundle_recipes::gzip::{Deflate, Marker, Memory};
use bundle_recipes::{
    Coding, Error, GzipParams, Kind, Limits, Options, Recipe, decode, encode, open,
};
use common::{run, text};
use proptest::prelude::{ProptestConfig, Strategy, any, prop_oneof, proptest};

/// Bytes of a recipe without corrections: no more than its numbers and a header without a name.
const SMALL: usize = 40;

/// Opens, encodes again from the wire form, compares; the member's parameters and the length of the recipe.
fn proven(file: &[u8], content: &[u8]) -> (GzipParams, usize) {
    let opened = open(file, &Options::default()).unwrap_or_else(|| panic!("no recipe"));
    assert!(opened.inner == content, "another content");
    let wire = opened.recipe.to_bytes();
    let recipe = Recipe::parse(&wire).unwrap();
    assert_eq!(recipe, opened.recipe);
    assert_eq!(again(&recipe, content).unwrap(), file);
    let [part] = recipe.parts() else {
        panic!("one part")
    };
    let Coding::Gzip(params) = &part.coding else {
        panic!("gzip")
    };
    (params.clone(), wire.len())
}

fn again(recipe: &Recipe, content: &[u8]) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    encode(recipe, content, &mut out, &Limits::default())?;
    Ok(out)
}

/// What the members of a file decode to, by Python.
fn python_decodes(file: &[u8]) -> Vec<u8> {
    let script =
        "import gzip, sys; sys.stdout.buffer.write(gzip.decompress(sys.stdin.buffer.read()))";
    run("python3", &["-c", script], file)
}

fn python(arguments: &str, content: &[u8]) -> Vec<u8> {
    let script = format!(
        "import sys, zlib\nc = zlib.compressobj({arguments})\n\
         sys.stdout.buffer.write(c.compress(sys.stdin.buffer.read()) + c.flush())"
    );
    run("python3", &["-c", &script], content)
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(length)
    .collect()
}

/// Text, noise, zeros and text again: blocks of every form, and several of each.
fn mixed() -> Vec<u8> {
    let parts = [
        text(400_000, 1),
        noise(200_000),
        vec![0; 150_000],
        text(90_000, 2),
    ];
    parts.concat()
}

#[test]
fn every_level_of_gzip_pigz_and_zlib_needs_no_correction() {
    let content = mixed();
    for level in 1..=9 {
        println!("level {level}");
        let option = format!("-{level}");
        let (params, size) = proven(&run("gzip", &[&option, "-n"], &content), &content);
        assert!(size < SMALL, "gzip: {size} bytes");
        assert_eq!(params.deflate.encoder.memory_level, None);
        for (threads, memory) in [("1", Memory::All), ("3", Memory::Dictionary)] {
            let file = run("pigz", &[&option, "-n", "-p", threads], &content);
            let (params, size) = proven(&file, &content);
            assert!(size < SMALL, "pigz with {threads} threads: {size} bytes");
            let pieces = params.deflate.pieces.unwrap();
            assert_eq!(pieces.length, 128 << 10);
            // The fast levels show the difference only where the dictionary has what they leave out.
            assert!(pieces.memory == memory || pieces.memory == Memory::Dictionary);
        }
        let file = python(&format!("{level}, zlib.DEFLATED, 31"), &content);
        let (_, size) = proven(&file, &content);
        assert!(size < SMALL, "zlib: {size} bytes");
    }
}

#[test]
fn pieces_and_memory_levels_are_found() {
    let content = mixed();
    for (arguments, length, marker) in [
        (&["-i"][..], 128 << 10, Marker::StoredTwice),
        (&["-b", "33"], 33 << 10, Marker::Shortest),
        (&["-b", "100", "-9", "-p", "1"], 100 << 10, Marker::Shortest),
    ] {
        println!("pigz {arguments:?}");
        let (params, size) = proven(&run("pigz", arguments, &content), &content);
        assert!(size < SMALL, "{size} bytes");
        let pieces = params.deflate.pieces.unwrap();
        assert_eq!((pieces.length, pieces.marker), (length, marker));
    }
    let flushes = "import sys, zlib\n\
        c, d = zlib.compressobj(6, zlib.DEFLATED, 31), sys.stdin.buffer.read()\n\
        for at in range(0, len(d), 300000):\n    \
            sys.stdout.buffer.write(c.compress(d[at:at + 300000]))\n    \
            sys.stdout.buffer.write(c.flush(zlib.Z_FULL_FLUSH) if at < 600000 else c.flush())";
    let (params, size) = proven(&run("python3", &["-c", flushes], &content), &content);
    assert!(size < SMALL, "full flushes: {size} bytes");
    assert_eq!(params.deflate.pieces.unwrap().memory, Memory::Nothing);
    for memory_level in 1..=9 {
        let file = python(&format!("6, zlib.DEFLATED, 31, {memory_level}"), &content);
        let (params, size) = proven(&file, &content);
        println!(
            "memory level {memory_level}: {:?}, {size}",
            params.deflate.encoder
        );
        assert!(size < SMALL, "memory level {memory_level}: {size} bytes");
    }
}

#[test]
fn edges() {
    let long = [text(65_274, 5), text(400, 6)].concat();
    let contents = [
        Vec::new(),
        b"x".to_vec(),
        b"xx".to_vec(),
        b"abcabcabc".to_vec(),
        vec![0; 64 << 10],
        vec![0; 1 << 20],
        noise(70_000),
        noise(16_383),
        // A block that ends where the content does.
        noise(32_767),
        long.clone(),
    ];
    // Around the places where the window moves and pieces end.
    let lengths = [
        65_273, 65_274, 65_275, 65_535, 65_536, 65_537, 98_304, 131_072, 131_073,
    ];
    let cuts = lengths.map(|length| text(length, 7));
    for content in contents.iter().chain(&cuts) {
        for (program, arguments) in [
            ("gzip", &["-n1"][..]),
            ("gzip", &["-n6"]),
            ("gzip", &["-9", "-c", "{}"]),
            ("pigz", &["-1"]),
            ("pigz", &["-9", "-p", "1"]),
        ] {
            println!("{program} {arguments:?} of {} bytes", content.len());
            let file = run(program, arguments, content);
            let (_, size) = proven(&file, content);
            assert!(size < SMALL, "{size} bytes");
            let (length, inner) = decode(Kind::Gzip, &file, &Options::default()).unwrap();
            assert_eq!((length, inner.as_slice()), (file.len(), content.as_slice()));
        }
        let (_, size) = proven(&python("9, zlib.DEFLATED, 31", content), content);
        assert!(size < SMALL, "{size} bytes");
    }
}

/// What no setting predicts is corrected: flushes, strategies, level 0, other block boundaries.
#[test]
fn corrections() {
    let content = mixed();
    // A partial flush and one with a stored block, in turns, at irregular places.
    let flushes = "import sys, zlib\n\
        c, d, at, step = zlib.compressobj(6, zlib.DEFLATED, 31), sys.stdin.buffer.read(), 0, 9777\n\
        while at < len(d):\n    \
            sys.stdout.buffer.write(c.compress(d[at:at + step]) + c.flush(1 + step % 2))\n    \
            at, step = at + step, step * 7 % 50021\n\
        sys.stdout.buffer.write(c.flush())";
    let files = [
        run("python3", &["-c", flushes], &content),
        python("0, zlib.DEFLATED, 31", &content),
        python("6, zlib.DEFLATED, 31, 8, zlib.Z_FIXED", &content),
        run("gzip", &["--rsyncable"], &content),
    ];
    for file in files {
        let opened = open(&file, &Options::default()).unwrap();
        let (params, size) = proven(&file, &opened.inner);
        assert!(
            size > SMALL && size < file.len() / 16,
            "{size} of {}",
            file.len()
        );
        let Deflate { tokens, blocks, .. } = params.deflate;
        assert!(!tokens.is_empty() || !blocks.is_empty());
    }
    // Other parsers are not worth it: one that only looks for runs, and one that only counts.
    for strategy in ["zlib.Z_RLE", "zlib.Z_HUFFMAN_ONLY"] {
        let file = python(
            &format!("6, zlib.DEFLATED, 31, 8, {strategy}"),
            &text(300_000, 9),
        );
        assert!(open(&file, &Options::default()).is_none(), "{strategy}");
        assert!(decode(Kind::Gzip, &file, &Options::default()).is_some());
    }
}

#[test]
fn members_and_headers() {
    let (one, other) = (text(50_000, 3), text(3_000, 4));
    let mut file = run("gzip", &["-9", "-c", "{}"], &one);
    assert_eq!(file[3], 8, "a name");
    file.extend(run("gzip", &["-1n"], &other));
    // Extra field, comment and sum of the header.
    let mut decorated = run("gzip", &["-6n"], &one);
    decorated[3] = 2 | 4 | 16;
    decorated.splice(10..10, *b"\x04\0RA\0\0a comment\0ss");
    file.extend(&decorated);
    let opened = open(&file, &Options::default()).unwrap();
    assert_eq!(opened.recipe.parts().len(), 3);
    assert!(opened.inner == [one.as_slice(), &other, &one].concat());
    assert_eq!(again(&opened.recipe, &opened.inner).unwrap(), file);

    // What follows is kept as it is.
    file.extend(b"garbage");
    let opened = open(&file, &Options::default()).unwrap();
    assert_eq!(again(&opened.recipe, &opened.inner).unwrap(), file);

    let whole = run("gzip", &["-6n"], &one);
    for (at, change) in [(0, 1), (2, 1), (3, 0x20), (20, 0x55)] {
        let mut bad = whole.clone();
        bad[at] ^= change;
        assert!(
            decode(Kind::Gzip, &bad, &Options::default()).is_none(),
            "byte {at}"
        );
    }
    for from_end in 1..=8 {
        let mut bad = whole.clone();
        let at = bad.len() - from_end;
        bad[at] ^= 1;
        assert!(
            open(&bad, &Options::default()).is_none(),
            "trailer {from_end}"
        );
        assert!(decode(Kind::Gzip, &whole[..at], &Options::default()).is_none());
    }
    let tight = Options {
        inner: one.len() as u64 - 1,
        ..Options::default()
    };
    assert!(decode(Kind::Gzip, &whole, &tight).is_none());
}

/// Manuals and changelogs of the machine: made by the build hosts of a distribution.
#[test]
fn files_of_this_machine() {
    let mut found = 0;
    let mut directories = vec!["/usr/share/doc".into(), "/usr/share/man/man1".into()];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = std::fs::read_dir::<std::path::PathBuf>(directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                directories.push(path);
            } else if kind.is_file()
                && path.extension().is_some_and(|end| end == "gz")
                && found < 300
            {
                let file = std::fs::read(&path).unwrap();
                let Some((_, content)) = decode(Kind::Gzip, &file, &Options::default()) else {
                    panic!("{} is no gzip", path.display())
                };
                if file.len() < 100_000 && made_by_gnu(&file) {
                    println!("{}", path.display());
                    let size = open(&file, &Options::default())
                        .map_or(file.len(), |opened| opened.recipe.to_bytes().len());
                    assert!(
                        size < file.len() / 16 + 2 * SMALL,
                        "{size} of {}",
                        file.len()
                    );
                    proven(&file, &content);
                    found += 1;
                }
            }
        }
    }
    println!("{found} files");
}

/// As `dh_compress` has it: level 9, no name, no time, a Unix system.
fn made_by_gnu(file: &[u8]) -> bool {
    file.starts_with(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3])
}

/// The prediction is part of the format: what generation 1 makes must be made for ever.
#[test]
fn golden() {
    let content = [text(150_000, 1), noise(9_000)].concat();
    // Encoder, level, pieces; length and CRC-32 of the file, as gzip 1.12, zlib 1.2.13 and pigz 2.6 themselves make it.
    let cases = [
        (0, 1, vec![0], 80476, 0x44ec6d80),
        (0, 3, vec![0], 76718, 0x75172531),
        (0, 6, vec![0], 72132, 0x158b02d3),
        (0, 9, vec![0], 72082, 0x1e4998fe),
        (8, 2, vec![0], 78272, 0x8fa8355d),
        (8, 6, vec![0], 72085, 0x63bb4a30),
        (9, 9, vec![0], 72082, 0x1e4998fe),
        (5, 4, vec![0], 77696, 0x003b12c2),
        (8, 6, vec![1, 0x80, 0x80, 8], 72268, 0xc3e3c513),
        (8, 1, vec![1, 0x80, 0x80, 8], 80513, 0x88f9a817),
        (8, 1, vec![3, 0x80, 0x80, 8], 80651, 0x84fba97a),
        (8, 6, vec![8, 0x80, 0x80, 8], 74384, 0xa6918b1e),
    ];
    for (encoder, level, pieces, length, sum) in cases {
        let mut wire = vec![1, 1];
        number(&mut wire, content.len() as u64);
        number(&mut wire, length);
        wire.extend([3, 1, 10, 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, encoder, level]);
        wire.extend(pieces);
        wire.extend([0, 0]);
        let recipe = Recipe::parse(&wire).unwrap();
        let file = again(&recipe, &content).unwrap();
        assert_eq!(crc32fast::hash(&file), sum, "{encoder} {level}");
        assert_eq!(python_decodes(&file), content);
        let opened = open(&file, &Options::default()).unwrap();
        // Some encoders make the same of it.
        let size = opened.recipe.to_bytes().len();
        assert_eq!(size, wire.len(), "{encoder} {level}");
    }
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes of few kinds, repeated and changed: matches of all lengths and distances.
fn contents() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..400),
        proptest::collection::vec(0..4u8, 0..3000),
        (any::<u8>(), 0..5000usize).prop_map(|(byte, count)| vec![byte; count]),
    ];
    proptest::collection::vec((piece, any::<u16>(), 0..2000usize), 0..30).prop_map(|pieces| {
        let mut out: Vec<u8> = Vec::new();
        for (piece, back, length) in pieces {
            out.extend(piece);
            let start = out.len().saturating_sub(usize::from(back));
            let end = out.len().min(start + length);
            out.extend_from_within(start..end);
        }
        out
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn random_contents(content in contents(), level in 1..=9u8, zlib in any::<bool>()) {
        let file = if zlib {
            python(&format!("{level}, zlib.DEFLATED, 31"), &content)
        } else {
            run("gzip", &[&format!("-{level}"), "-n"], &content)
        };
        let (_, size) = proven(&file, &content);
        assert!(size < SMALL, "{size} bytes");
    }

    /// Corrections in any order make files of odd blocks, which decode and are opened again.
    #[test]
    fn random_corrections(
        content in contents(),
        literals in proptest::collection::vec(0..20u8, 0..5),
        fixes in proptest::collection::vec((0..4usize, 0..100u8), 0..8),
        level in 1..=9u8,
    ) {
        // A literal after so many right tokens; blocks of so many tokens, stored bytes, fixed codes, the predicted codes.
        let tokens: Vec<u8> = literals.iter().map(|right| right << 1).collect();
        let blocks: Vec<u8> = fixes
            .iter()
            .flat_map(|(form, count)| [0, [0b1, 0b101, 0b1001, 0b1101][*form], *count])
            .collect();
        let recipe = |length: u64| {
            let mut wire = vec![1, 1];
            number(&mut wire, content.len() as u64);
            number(&mut wire, length);
            wire.extend([3, 1, 10, 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 8, level, 0]);
            for bytes in [&tokens, &blocks] {
                number(&mut wire, bytes.len() as u64);
                wire.extend(bytes);
            }
            Recipe::parse(&wire).unwrap()
        };
        match again(&recipe(1 << 20), &content) {
            // The length is not known before: the attempt tells it.
            Err(Error::OutputLength { found, .. }) => {
                let file = again(&recipe(found), &content).unwrap();
                let (length, inner) = decode(Kind::Gzip, &file, &Options::default()).unwrap();
                assert_eq!((length, inner), (file.len(), content));
                if let Some(opened) = open(&file, &Options::default()) {
                    assert_eq!(again(&opened.recipe, &opened.inner).unwrap(), file);
                }
            }
            // More corrections than content.
            Err(Error::Malformed { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Every byte starts a chain that is followed to its end: such a content is not worth opening, and no recipe makes the
/// appliance search for ever.
#[test]
fn contents_made_to_be_slow_are_refused() {
    let content: Vec<u8> = noise(100_000)
        .into_iter()
        .flat_map(|byte| [byte, 0, 0, 0, 0])
        .collect();
    let file = run("gzip", &["-9n"], &content);
    assert!(open(&file, &Options::default()).is_none());
    assert!(decode(Kind::Gzip, &file, &Options::default()).is_some());
    let mut wire = vec![1, 1];
    number(&mut wire, content.len() as u64);
    number(&mut wire, file.len() as u64);
    wire.extend([3, 1, 10, 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3, 0, 9, 0, 0, 0]);
    let outcome = again(&Recipe::parse(&wire).unwrap(), &content);
    assert!(matches!(
        outcome,
        Err(Error::Encoder {
            encoder: "gzip",
            ..
        })
    ));
}

/// Recipes that are no recipes, and such that do not fit the content.
#[test]
fn recipes_that_lie_are_refused() {
    let wire = |rest: &[u8]| {
        let beginning = [1, 1, 9, 29, 3, 1, 10, 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
        [&beginning, rest].concat()
    };
    let parsed: [(&str, &[u8]); 8] = [
        ("memory level 10", &[10, 6, 0, 0, 0]),
        ("level 0", &[0, 0, 0, 0, 0]),
        ("level 10", &[0, 10, 0, 0, 0]),
        ("pieces of no kind", &[8, 6, 10, 0x80, 0x80, 8, 0, 0]),
        ("short pieces", &[8, 6, 1, 0xff, 0xff, 1, 0, 0]),
        ("tokens beyond the end", &[0, 6, 0, 9, 0]),
        ("blocks beyond the end", &[0, 6, 0, 0, 9]),
        ("something behind", &[0, 6, 0, 0, 0, 0]),
    ];
    for (what, rest) in parsed {
        let error = Recipe::parse(&wire(rest)).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{what}: {error}");
    }
    let mut later = wire(&[0, 6, 0, 0, 0]);
    later[5] = 2;
    assert!(matches!(
        Recipe::parse(&later),
        Err(Error::Generation { found: 2, .. })
    ));
    let mut header = wire(&[0, 6, 0, 0, 0]);
    header[10] = 0x08;
    assert!(Recipe::parse(&header).is_err(), "a name that is not there");

    let carried_out: [(&str, &[u8]); 8] = [
        ("a match beyond the end", &[0, 6, 0, 3, 1, 200, 0, 0]),
        ("a token too many", &[0, 6, 0, 0, 3, 0, 1, 10]),
        ("a token behind the last", &[0, 6, 0, 1, 100, 0]),
        ("a block behind the last", &[0, 6, 0, 0, 2, 1, 2]),
        ("the end too early", &[0, 6, 0, 0, 3, 0, 0b11, 1]),
        ("no end", &[0, 6, 0, 0, 2, 0, 0b10]),
        (
            "stored bytes beyond the end",
            &[0, 6, 0, 0, 3, 0, 0b101, 10],
        ),
        (
            "a description that is none",
            &[0, 6, 0, 0, 5, 0, 4 << 2, 9, 0xff, 1],
        ),
    ];
    for (what, rest) in carried_out {
        let recipe = Recipe::parse(&wire(rest)).unwrap();
        let error = again(&recipe, b"123456789").unwrap_err();
        let known = matches!(error, Error::Malformed { .. } | Error::OutputLength { .. });
        assert!(known, "{what}: {error}");
    }
    let right = Recipe::parse(&wire(&[0, 6, 0, 0, 0])).unwrap();
    assert!(matches!(
        again(&right, b"12345678"),
        Err(Error::InnerShort {
            expected: 9,
            found: 8
        })
    ));
    // The twin: nine literals in the fixed codes.
    assert_eq!(
        python_decodes(&again(&right, b"123456789").unwrap()),
        b"123456789"
    );
}
