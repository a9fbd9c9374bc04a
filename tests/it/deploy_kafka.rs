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
    let config = format!("--config.file={}", file("config.yaml").display());
    succeeds(binary().args(["check", &config, "--shard=2/3"]));
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

    // Nothing that a replica needs is on its own disk.
    assert!(set["spec"].get("volumeClaimTemplates").is_none());
    assert!(settings.contains("state_topic: appliance-logs-state"));

    let compose = &documents("compose.yaml")[0];
    let arguments = |service: &str| {
        let command = &compose["services"][service]["command"];
        command.as_array().expect("a list").clone()
    };
    // Each shard keeps its state in the partition of the same number.
    let partitions = |service: &str| {
        let arguments = arguments(service).into_iter();
        let mut found = arguments.filter(|one| {
            one.as_str()
                .is_some_and(|one| one.starts_with("--partitions="))
        });
        found.next().expect("a number")
    };
    assert_eq!(partitions("topic"), partitions("state-topic"));
    let compacts = arguments("state-topic");
    assert!(
        compacts
            .iter()
            .any(|one| one == "--config=cleanup.policy=compact")
    );
    for replica in 0..2 {
        let arguments = arguments(&format!("exporter-{replica}"));
        let shard = format!("--shard={replica}/2");
        assert!(arguments.iter().any(|one| *one == *shard), "{arguments:?}");
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
