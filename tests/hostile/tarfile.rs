//! Rows 1, 2, 28 to 30 for a bundle in a tar file, and what only tar files can do.

use std::fs;
use std::path::Path;

use crate::case::{Case, Site, run_all};
use crate::common::tarball::{finish, member, member_of_size, members};

const EXTRA: &[&str] = &["extra-file"];
const NOT_A_BUNDLE: &[&str] = &["not-a-bundle"];

/// Replaces the directory by a tar file of it, after an edit of its members.
fn pack(site: &Site<'_>, edit: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let mut list = members(&site.dir);
    edit(&mut list);
    replace(&site.dir, &finish(&list));
}

fn replace(dir: &Path, bytes: &[u8]) {
    fs::remove_dir_all(dir).unwrap();
    fs::write(dir, bytes).unwrap();
}

fn extra(name: &'static str, damage: fn(&Site<'_>)) -> Case {
    Case {
        row: 28,
        name,
        codes: EXTRA,
        status: 12,
        damage,
    }
}

fn broken(name: &'static str, damage: fn(&Site<'_>)) -> Case {
    Case {
        row: 2,
        name,
        codes: NOT_A_BUNDLE,
        status: 10,
        damage,
    }
}

#[test]
fn members_that_have_no_place() {
    run_all(&[
        extra("an extra file", |s| {
            pack(s, |m| m.push(member("README", b'0', b"x")))
        }),
        extra("an old-style file", |s| {
            pack(s, |m| m.push(member("README", 0, b"x")))
        }),
        extra("a contiguous file", |s| {
            pack(s, |m| m.push(member("README", b'7', b"x")))
        }),
        extra("a hard link", |s| {
            pack(s, |m| m.push(member("second", b'1', b"")))
        }),
        extra("a symbolic link", |s| {
            pack(s, |m| m.push(member("second", b'2', b"")))
        }),
        extra("a character device", |s| {
            pack(s, |m| m.push(member("device", b'3', b"")))
        }),
        extra("a block device", |s| {
            pack(s, |m| m.push(member("device", b'4', b"")))
        }),
        extra("a FIFO", |s| pack(s, |m| m.push(member("fifo", b'6', b"")))),
        extra("a directory", |s| {
            pack(s, |m| m.push(member("more/", b'5', b"")))
        }),
        extra("a directory with content", |s| {
            pack(s, |m| {
                m.push(member("blobs/", b'5', b"hidden in a directory"))
            });
        }),
        extra("a sparse file", |s| {
            pack(s, |m| m.push(member("sparse", b'S', b"")))
        }),
        extra("a pax header", |s| {
            pack(s, |m| {
                m.insert(0, member("pax", b'x', b"25 path=blobs/sha256/evil\n"))
            });
        }),
        extra("a global pax header", |s| {
            pack(s, |m| {
                m.insert(0, member("pax", b'g', b"19 comment=whatever\n"))
            });
        }),
        extra("a pax header that changes the size of what follows", |s| {
            pack(s, |m| m.insert(1, member("pax", b'x', b"9 size=0\n")));
        }),
        extra("a GNU long name", |s| {
            pack(s, |m| {
                m.insert(0, member("././@LongLink", b'L', b"index.json\0"))
            });
        }),
        extra("an unknown type", |s| {
            pack(s, |m| m.push(member("what", b'Z', b"x")))
        }),
        extra("a name that leads upwards", |s| {
            pack(s, |m| m.push(member("../index.json", b'0', b"x")));
        }),
        extra("a name that leads upwards and back", |s| {
            pack(s, |m| m.push(member("blobs/../index.json", b'0', b"x")));
        }),
        extra("an absolute name", |s| {
            pack(s, |m| m.push(member("/index.json", b'0', b"x")))
        }),
        extra("an empty name", |s| {
            pack(s, |m| m.push(member("", b'0', b"x")))
        }),
        extra("a name with a slash behind", |s| {
            pack(s, |m| m.push(member("index.json/", b'0', b"x")));
        }),
        extra("a name twice, the same content", |s| {
            pack(s, |m| m.push(m.last().unwrap().clone()));
        }),
        extra("a name twice, other content behind", |s| {
            pack(s, |m| m.push(member("index.json", b'0', b"{}")));
        }),
        extra("a name twice in another spelling", |s| {
            pack(s, |m| m.push(member("./index.json", b'0', b"{}")));
        }),
        extra("a name in another case", |s| {
            pack(s, |m| m.push(member("INDEX.json", b'0', b"x")))
        }),
        Case {
            row: 28,
            name: "a name twice, other content before",
            codes: NOT_A_BUNDLE,
            status: 10,
            damage: |s| pack(s, |m| m.insert(0, member("index.json", b'0', b"{}"))),
        },
        Case {
            row: 29,
            name: "a layer is a hard link",
            codes: &["misplaced-file"],
            status: 12,
            damage: |s| {
                pack(s, |m| {
                    let largest = m.iter_mut().max_by_key(|m| m.len()).unwrap();
                    let name = String::from_utf8(largest[..77].to_vec()).unwrap();
                    *largest = member(&name, b'1', b"");
                });
            },
        },
        Case {
            row: 28,
            name: "a member is missing",
            codes: &["missing-file"],
            status: 12,
            damage: |s| {
                pack(s, |m| {
                    let largest = (0..m.len()).max_by_key(|at| m[*at].len()).unwrap();
                    m.remove(largest);
                });
            },
        },
    ]);
}

#[test]
fn tar_files_that_are_broken() {
    fn edited(site: &Site<'_>, edit: fn(&mut Vec<u8>)) {
        let mut bytes = finish(&members(&site.dir));
        edit(&mut bytes);
        replace(&site.dir, &bytes);
    }
    run_all(&[
        broken("empty", |s| replace(&s.dir, b"")),
        broken("a block of zeros", |s| replace(&s.dir, &[0; 1024])),
        broken("text", |s| {
            replace(&s.dir, "bundle\n".repeat(1000).as_bytes())
        }),
        broken("cut in a header", |s| {
            edited(s, |b| b.truncate(b.len() - 1024 - 512 - 300))
        }),
        broken("cut in a member", |s| {
            edited(s, |b| b.truncate(b.len() / 2))
        }),
        broken("trailing data", |s| edited(s, |b| b.extend(b"trailing"))),
        broken("trailing member behind the end", |s| {
            edited(s, |b| b.extend(member("README", b'0', b"x")));
        }),
        broken("more zeros than any writer leaves", |s| {
            edited(s, |b| b.resize(b.len() + (2 << 20), 0));
        }),
        broken("data in the padding of a member", |s| {
            edited(s, |b| {
                let end = b.len() - 1024;
                assert_eq!(b[end - 1], 0);
                b[end - 1] = b'x';
            });
        }),
        broken("data between the two end blocks", |s| {
            edited(s, |b| {
                let end = b.len();
                b[end - 512 + 7] = b'x';
            });
        }),
        broken("a size beyond the file", |s| {
            pack(s, |m| m.push(member_of_size("x", b'0', b"", 1 << 32)));
        }),
        broken("the largest octal size", |s| {
            pack(s, |m| {
                m.push(member_of_size("x", b'0', b"", 0o77_777_777_777))
            });
        }),
        broken("a size of 8 EiB", |s| {
            pack(s, |m| m.push(member_of_size("x", b'0', b"", u64::MAX / 2)));
        }),
        broken("a size of 16 EiB", |s| {
            pack(s, |m| {
                m.push(member_of_size("x", b'0', b"", u64::MAX - 511))
            });
        }),
        broken("a negative size", |s| {
            edited(s, |b| {
                b[124..136].fill(0xff);
                resum(b);
            });
        }),
        broken("a size that is no number", |s| {
            edited(s, |b| {
                b[124..136].copy_from_slice(b"0000000q000\0");
                resum(b);
            });
        }),
        broken("a wrong checksum", |s| edited(s, |b| b[148] ^= 1)),
        broken("compressed", |s| {
            let bytes = zstd::encode_all(finish(&members(&s.dir)).as_slice(), 1).unwrap();
            replace(&s.dir, &bytes);
        }),
    ]);
}

/// Corrects the checksum of the first header.
fn resum(bytes: &mut [u8]) {
    bytes[148..156].fill(b' ');
    let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// What honest programs write: directories, `./` names, blocking factors, both orders.
#[test]
fn honest_tar_files_are_accepted() {
    use crate::case::accepts;
    use crate::common::kit::{Image, Kit};
    use crate::common::run::{run, tool};

    let kit = Kit::new(Image::USUAL);
    let tar = kit.path("bundle.tar");
    for options in [
        vec!["--format=ustar", "."],
        vec!["--format=gnu", "."],
        vec!["--format=v7", "."],
        vec!["--format=ustar", "--sort=name", "-b", "2048", "."],
        vec!["--format=ustar", "index.json", "oci-layout", "blobs"],
    ] {
        let mut command = tool("tar", ["-c", "-f"]);
        command.arg(&tar).arg("-C").arg(&kit.bundle).args(&options);
        run(&mut command).good();
        accepts(&tar, &kit.trust_root);
    }
    // A tar file without its end marker has all of the bundle, so nothing is wrong with it.
    fs::write(&tar, members(&kit.bundle).concat()).unwrap();
    accepts(&tar, &kit.trust_root);
}
