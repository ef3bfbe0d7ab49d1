//! The archive that `packaging/package.sh image` makes: what is in it, and that its bytes depend on its input only.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::Value;

use crate::harness::{User, command_for, find_program, in_test_dir, sameport, skip, spawn_process};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The image of the executable under test, which all tests share. The error is the program that is missing.
pub(crate) static IMAGE: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
    for program in ["strip", "tar", "gzip", "sha256sum"] {
        find_program(program).ok_or_else(|| format!("needs {program}"))?;
    }
    let dir = in_test_dir("image");
    fs::create_dir(&dir).unwrap();
    let stripped = dir.join("sameport");
    let mut strip = command_for(User::Current, "strip", &["-o"]);
    strip.arg(&stripped).arg(sameport());
    let exited = spawn_process(strip).wait();
    assert_eq!(exited.code, 0, "{exited:?}");
    Ok(made_of(&stripped, "x86_64", &dir))
});

/// The reference of the image.
pub(crate) const REFERENCE: &str = concat!("localhost/sameport:", env!("CARGO_PKG_VERSION"));

fn made_of(executable: &Path, architecture: &str, out: &Path) -> PathBuf {
    let script = Path::new(ROOT).join("packaging/package.sh");
    let words = ["image", env!("CARGO_PKG_VERSION"), architecture];
    let mut make = command_for(User::Current, script, &words);
    make.arg(executable)
        .arg("/no/generator")
        .arg(Path::new(ROOT).join("packaging/notices"))
        .arg(out);
    let exited = spawn_process({
        make.env("SOURCE_DATE_EPOCH", "1790000000");
        make
    })
    .wait();
    assert_eq!(exited.code, 0, "{exited:?}");
    out.join(exited.stdout.trim())
}

/// Unpacks an archive into a new directory.
fn unpacked(archive: &Path, name: &str) -> PathBuf {
    let dir = in_test_dir(name);
    fs::create_dir(&dir).unwrap();
    let mut tar = command_for(User::Current, "tar", &["-xf"]);
    tar.arg(archive).arg("-C").arg(&dir);
    let exited = spawn_process(tar).wait();
    assert_eq!(exited.code, 0, "{exited:?}");
    dir
}

/// The names, modes, owners and times in an archive.
fn listed(archive: &Path) -> Vec<String> {
    let mut tar = command_for(User::Current, "tar", &["--full-time", "--utc", "-tvf"]);
    let exited = spawn_process({
        tar.arg(archive);
        tar
    })
    .wait();
    exited.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn every_digest_is_that_of_its_file() {
    let image = match &*IMAGE {
        Ok(image) => image,
        Err(reason) => return skip("image-archive", reason),
    };
    assert_eq!(
        image.file_name().unwrap(),
        concat!("sameport-", env!("CARGO_PKG_VERSION"), "-amd64-image.tar.gz")
    );
    let dir = unpacked(image, "image-unpacked");
    let json = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let blob = |described: &Value| {
        let digest = described["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let path = dir.join("blobs/sha256").join(digest);
        assert_eq!(described["size"], fs::metadata(&path).unwrap().len());
        path
    };
    let sums = spawn_process(command_for(
        User::Current,
        "sh",
        &["-c", "cd \"$0\"/blobs/sha256 && sha256sum *", dir.to_str().unwrap()],
    ))
    .wait();
    let is_named = |line: &str| line.split_once("  ").is_some_and(|(sum, name)| sum == name);
    assert!(sums.code == 0 && sums.stdout.lines().all(is_named), "{sums:?}");
    assert_eq!(sums.stdout.lines().count(), 3);

    let manifest = json(&blob(&json(&dir.join("index.json"))["manifests"][0]));
    let config_path = blob(&manifest["config"]);
    let config = json(&config_path);
    let layer = blob(&manifest["layers"][0]);
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", name(&layer)));
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/sameport"]));
    assert_eq!(config["architecture"], "amd64");
    assert_eq!(config["created"], "2026-09-21T14:13:20Z");
    let labels = &config["config"]["Labels"];
    assert_eq!(labels["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    // The manifest of `docker save`, which older programs read.
    let docker = &json(&dir.join("manifest.json"))[0];
    assert_eq!(docker["Config"], format!("blobs/sha256/{}", name(&config_path)));
    assert_eq!(docker["Layers"][0], format!("blobs/sha256/{}", name(&layer)));
    assert_eq!(docker["RepoTags"][0], REFERENCE);

    let files = listed(&layer);
    let programs: Vec<_> = files.iter().filter(|line| line.starts_with("-rwx")).collect();
    assert!(programs.len() == 1 && programs[0].ends_with(" sameport"), "{files:#?}");
    let is_alike = |line: &&String| line.contains(" 0/0 ") && line.contains("2026-09-21 14:13:20");
    assert!(files.iter().all(|line| is_alike(&line)), "{files:#?}");
}

/// The same input gives the same bytes, whatever the umask, the directory and the time are.
#[test]
fn two_builds_are_the_same_bytes() {
    if let Err(reason) = &*IMAGE {
        return skip("image-bytes", reason);
    }
    let dir = in_test_dir("image-bytes");
    let executable = dir.join("in/executable");
    fs::create_dir_all(executable.parent().unwrap()).unwrap();
    fs::write(&executable, "of another architecture").unwrap();
    let bytes = |out: &str| {
        let out = dir.join(out);
        fs::create_dir(&out).unwrap();
        let made = made_of(&executable, "aarch64", &out);
        assert!(made.to_str().unwrap().ends_with("-arm64-image.tar.gz"), "{made:?}");
        fs::read(made).unwrap()
    };
    let first = bytes("one");
    // Another time of the file.
    fs::write(&executable, "of another architecture").unwrap();
    assert!(first == bytes("two"), "the archives differ");
}
