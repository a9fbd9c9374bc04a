//! The Debian and the RPM package: they hold what the documents promise, and the Debian one is installed, started and
//! removed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::{Child, free_port, http_get, program, root, succeeds};

/// How long the installation, and the removal, may take.
const LIMIT: Duration = Duration::from_secs(120);

/// A packager that tests/install-deps.sh puts among the tools of the tests.
fn tool(name: &str) -> PathBuf {
    let path = root().join("tests/.tools/bin").join(name);
    assert!(
        path.is_file(),
        "`{name}` is not installed; tests/install-deps.sh installs it"
    );
    path
}

/// Packs this very build, not a release build, into `directory`.
fn pack(packager: &str, arguments: &[&str], directory: &Path, name: &str) -> PathBuf {
    let built = directory.join("release");
    std::fs::create_dir_all(&built).expect("a directory");
    // Without its debugging symbols it is packed in seconds instead of minutes.
    succeeds(
        Command::new(program("strip"))
            .arg("-o")
            .arg(built.join("appliance_log_exporter"))
            .arg(env!("CARGO_BIN_EXE_appliance_log_exporter")),
    );
    let package = directory.join(name);
    succeeds(
        Command::new(tool(packager))
            .args(arguments)
            .arg("--output")
            .arg(&package)
            .env("CARGO_TARGET_DIR", directory)
            .current_dir(root()),
    );
    package
}

fn deb(directory: &Path) -> PathBuf {
    let arguments = ["--no-build", "--no-strip", "--no-dbgsym", "--fast"];
    pack("cargo-deb", &arguments, directory, "package.deb")
}

/// What both packages must hold, besides documents and dashboards.
const FILES: &[&str] = &[
    "/etc/default/appliance_log_exporter",
    "/usr/bin/appliance_log_exporter",
    "/usr/lib/systemd/system/appliance_log_exporter.service",
    "/usr/lib/systemd/system/appliance_log_exporter.socket",
    "/usr/lib/sysusers.d/appliance_log_exporter.conf",
    "/usr/lib/tmpfiles.d/appliance_log_exporter.conf",
    "/usr/share/appliance-log-exporter/alerts/hsm.yaml",
    "/usr/share/appliance-log-exporter/config.schema.json",
    "/usr/share/appliance-log-exporter/rules.schema.json",
    "/usr/share/appliance-log-exporter/dashboards/fleet.json",
    "/usr/share/bash-completion/completions/appliance_log_exporter",
    "/usr/share/doc/appliance-log-exporter/deploying.md",
    "/usr/share/doc/appliance-log-exporter/examples/alertmanager/alertmanager.yml",
    "/usr/share/doc/appliance-log-exporter/examples/alertmanager/appliance.tmpl",
    "/usr/share/doc/appliance-log-exporter/examples/logrotate/appliances",
    "/usr/share/doc/appliance-log-exporter/examples/prometheus/prometheus.yml",
    "/usr/share/doc/appliance-log-exporter/examples/rsyslog/appliances.conf",
    "/usr/share/doc/appliance-log-exporter/examples/rsyslog/appliances.lookup.json",
    "/usr/share/doc/appliance-log-exporter/examples/systemd/appliance_log_exporter-syslog.socket",
];

/// Where no package is at hand, `make install` puts the same program, units and settings there, and leaves settings that
/// are there alone.
#[test]
fn make_installs_what_the_service_needs() {
    let directory = tempfile::tempdir().expect("a directory");
    let install = || {
        succeeds(
            Command::new(program("make"))
                .arg("install")
                .arg(concat!(
                    "BINARY=",
                    env!("CARGO_BIN_EXE_appliance_log_exporter")
                ))
                .arg(format!("DESTDIR={}", directory.path().display()))
                .current_dir(root()),
        )
        .out
    };
    install();
    for (installed, source) in [
        (
            "etc/systemd/system/appliance_log_exporter.service",
            "service",
        ),
        ("etc/systemd/system/appliance_log_exporter.socket", "socket"),
        ("etc/default/appliance_log_exporter", "default"),
        ("etc/sysusers.d/appliance_log_exporter.conf", "sysusers"),
        ("etc/tmpfiles.d/appliance_log_exporter.conf", "tmpfiles"),
    ] {
        let read = |path: PathBuf| {
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
        };
        assert_eq!(
            read(directory.path().join(installed)),
            read(root().join(format!("deploy/systemd/appliance_log_exporter.{source}")))
        );
    }
    let binary = directory.path().join("usr/bin/appliance_log_exporter");
    assert!(
        succeeds(Command::new(binary).arg("--version"))
            .out
            .contains(env!("CARGO_PKG_VERSION"))
    );

    for file in [
        "usr/share/bash-completion/completions/appliance_log_exporter",
        "usr/share/appliance-log-exporter/rules.schema.json",
        "usr/share/doc/appliance-log-exporter/examples/rsyslog/appliances.conf",
    ] {
        assert!(directory.path().join(file).is_file(), "{file}");
    }
    assert!(
        directory
            .path()
            .join("etc/appliance_log_exporter/rules")
            .is_dir()
    );

    let settings = directory.path().join("etc/default/appliance_log_exporter");
    std::fs::write(&settings, "ARGS=mine").expect("it can be written");
    install();
    assert_eq!(
        std::fs::read_to_string(&settings).expect("settings"),
        "ARGS=mine"
    );
}

#[test]
fn the_debian_package_holds_everything() {
    let directory = tempfile::tempdir().expect("a directory");
    let package = deb(directory.path());
    let listing = succeeds(Command::new(program("dpkg-deb")).arg("-c").arg(&package)).out;
    for file in FILES {
        assert!(
            listing
                .lines()
                .any(|line| line.ends_with(&format!(" .{file}"))),
            "no {file} in\n{listing}"
        );
    }
    let control = succeeds(
        Command::new(program("dpkg-deb"))
            .args(["-I"])
            .arg(&package)
            .arg("conffiles"),
    )
    .out;
    assert_eq!(control.trim(), "/etc/default/appliance_log_exporter");

    let scripts = directory.path().join("control");
    succeeds(
        Command::new(program("dpkg-deb"))
            .arg("-e")
            .arg(&package)
            .arg(&scripts),
    );
    for script in ["postinst", "prerm", "postrm"] {
        succeeds(
            Command::new(program("shellcheck"))
                .arg("--severity=warning")
                .arg(scripts.join(script)),
        );
    }
}

#[test]
fn the_rpm_package_holds_everything() {
    let directory = tempfile::tempdir().expect("a directory");
    let package = pack(
        "cargo-generate-rpm",
        &["--payload-compress", "none"],
        directory.path(),
        "package.rpm",
    );
    let listing = succeeds(Command::new(program("rpm")).arg("-qpl").arg(&package)).out;
    for file in FILES {
        assert!(
            listing.lines().any(|line| line == *file),
            "no {file} in\n{listing}"
        );
    }
    let config = succeeds(Command::new(program("rpm")).arg("-qpc").arg(&package)).out;
    assert_eq!(config.trim(), "/etc/default/appliance_log_exporter");
}

/// The package's whole life, on a copy of this system that is gone afterwards: see tests/fixtures/package.sh. The
/// service starts as its unit says, on a socket that it is handed, without any network of its own.
#[test]
fn the_debian_package_is_installed_started_and_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    let package = deb(directory.path());
    let copy = directory.path().join("copy");
    std::fs::create_dir(&copy).expect("a directory");
    let port = free_port();
    let mut life = Child::start(
        Command::new(program("unshare"))
            .args(["--mount", "sh"])
            .arg(root().join("tests/fixtures/package.sh"))
            .arg(&package)
            .arg(port.to_string())
            .arg(&copy),
    );
    let fan = r#"ipmi_sensor_state{appliance="hsm1",name="Fan2A",type="Fan"} 2"#;
    life.wait_for("metrics of the installed service", LIMIT, || {
        http_get(port, "/metrics").filter(|answer| answer.text().contains(fan))
    });
    life.signal("TERM");
    let status = life.wait_for_end(LIMIT);
    let said = life.output();
    assert!(status.success() && said.contains("purged"), "{said}");
}

/// Packing twice what `make dist` publishes. A program of this machine is packed in place of the release builds, which
/// `make reproduce` compares.
#[test]
fn what_is_published_is_the_same_twice() {
    let directory = tempfile::tempdir().expect("a directory");
    let [first, second] = ["first", "second"].map(|name| directory.path().join(name));
    for out in [&first, &second] {
        succeeds(Command::new(root().join("deploy/dist.py")).arg(out).args([
            "--static",
            "/bin/true",
            "--debian",
            "/bin/true",
        ]));
    }
    let sums = std::fs::read_to_string(first.join("sha256sums.txt")).expect("checksums");
    assert_eq!(
        std::fs::read_to_string(second.join("sha256sums.txt")).expect("checksums"),
        sums
    );
    succeeds(
        Command::new(program("sha256sum"))
            .args(["--check", "sha256sums.txt"])
            .current_dir(&first),
    );
    let version = env!("CARGO_PKG_VERSION");
    let names: Vec<&str> = sums.lines().map(|line| &line[66..]).collect();
    assert_eq!(
        names,
        [
            format!("appliance-log-exporter-{version}.tgz"),
            format!("appliance-log-exporter-{version}.x86_64.rpm"),
            format!("appliance-log-exporter_{version}_amd64.deb"),
            format!("appliance_log_exporter-{version}.cdx.json"),
            format!("appliance_log_exporter-{version}.linux-amd64.oci.tar"),
            format!("appliance_log_exporter-{version}.linux-amd64.tar.gz"),
        ]
    );
    let json = |text: &[u8]| -> serde_json::Value { serde_json::from_slice(text).expect("JSON") };

    // The bill of materials names every crate that Cargo.toml asks for, with its checksum.
    let bill = json(&std::fs::read(first.join(names[3])).expect("a bill of materials"));
    let components = bill["components"].as_array().expect("components");
    let has = |name: &str| {
        let mut named = components.iter().filter(|it| it["name"] == name);
        named.any(|it| it["hashes"][0]["alg"] == "SHA-256" && it["licenses"][0].is_object())
    };
    for name in ["clap", "hyper", "regex-automata", "rustls", "yaml_serde"] {
        assert!(has(name), "{name}");
    }

    // The image: each blob is called by its digest, and the manifest leads to a layer with the program.
    let image = directory.path().join("image");
    std::fs::create_dir(&image).expect("a directory");
    let unpack = |archive: &Path, flags: &str| {
        succeeds(
            Command::new(program("tar"))
                .args([flags, &archive.display().to_string(), "-C"])
                .arg(&image),
        );
    };
    unpack(&first.join(names[4]), "xf");
    let blob = |digest: &serde_json::Value| {
        let digest = digest.as_str().expect("a digest").replace(':', "/");
        image.join("blobs").join(digest)
    };
    let index = json(&std::fs::read(image.join("index.json")).expect("an index"));
    let manifest = std::fs::read(blob(&index["manifests"][0]["digest"])).expect("a manifest");
    let manifest = json(&manifest);
    let config = json(&std::fs::read(blob(&manifest["config"]["digest"])).expect("a config"));
    assert_eq!(config["config"]["User"], "65532:65532");
    unpack(&blob(&manifest["layers"][0]["digest"]), "xzf");
    assert!(image.join("usr/bin/appliance_log_exporter").is_file());
}
