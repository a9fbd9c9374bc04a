//! What `deploy/kafka/` holds fits together, and is accepted by the programs that it is for.

use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize as _;
use serde_json::Value;

use crate::deploy::python_tool;
use crate::exporter::binary;
use crate::support::{program, root, succeeds};

fn file(name: &str) -> PathBuf {
    root().join("deploy/kafka").join(name)
}

fn documents(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(file(name)).expect("a file");
    let documents = serde_yaml::Deserializer::from_str(&text);
    let documents = documents.map(|one| Value::deserialize(one).expect("YAML"));
    documents.collect()
}

/// The settings are good, and the same everywhere; each replica has its number.
#[test]
fn replicas_share_settings_that_check_accepts() {
    let state = tempfile::tempdir().expect("a directory");
    let state = format!("--state.dir={}", state.path().display());
    let config = format!("--config.file={}", file("config.yaml").display());
    succeeds(binary().args(["check", &config, "--shard=2/3", &state]));
    let settings = std::fs::read_to_string(file("config.yaml")).expect("a file");

    let [map, service, set] = &documents("kubernetes.yaml")[..] else {
        panic!("three documents");
    };
    assert_eq!(map["data"]["config.yaml"], settings);
    let name = &service["metadata"]["name"];
    assert_eq!(&set["spec"]["serviceName"], name);
    let pod = &set["spec"]["template"]["spec"];
    let volume = &pod["volumes"][0]["configMap"]["name"];
    assert_eq!(volume, &map["metadata"]["name"]);
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&set["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(&service["spec"]["selector"], labels);
    let arguments = pod["containers"][0]["args"].as_array().expect("a list");
    let shard = format!("--shard=auto/{}", set["spec"]["replicas"]);
    assert!(arguments.iter().any(|one| *one == *shard), "{arguments:?}");

    let compose = &documents("compose.yaml")[0];
    for replica in 0..2 {
        let service = &compose["services"][format!("exporter-{replica}")];
        let arguments = service["command"].as_array().expect("a list");
        let shard = format!("--shard={replica}/2");
        assert!(arguments.iter().any(|one| *one == *shard), "{arguments:?}");
        let volumes = service["volumes"].as_array().expect("a list");
        let state = format!("state-{replica}:/var/lib/exporter");
        assert!(volumes.iter().any(|one| *one == *state), "{volumes:?}");
    }
    succeeds(
        Command::new(python_tool("check-jsonschema"))
            .args(["--builtin-schema", "vendor.compose-spec"])
            .arg(file("compose.yaml")),
    );
}

/// As locked in as the service that follows files, but for the network.
#[test]
fn systemd_accepts_the_template_unit() {
    const NAME: &str = "appliance_log_exporter-shard@.service";
    let directory = tempfile::tempdir().expect("a directory");
    // The program is not installed here; any other will do for the check.
    let unit = std::fs::read_to_string(file(NAME)).expect("a file");
    let unit = unit.replace("/usr/bin/appliance_log_exporter", "/bin/true");
    std::fs::write(directory.path().join(NAME), unit).expect("a unit");
    let instance = directory.path().join(NAME.replace('@', "@0"));
    let said = succeeds(
        Command::new(program("systemd-analyze"))
            .args(["verify", "--man=no"])
            .arg(instance),
    );
    assert_eq!(said.all(), "");
    succeeds(
        Command::new(program("systemd-analyze"))
            .args(["security", "--offline=true", "--threshold=15"])
            .arg(file(NAME)),
    );
}
