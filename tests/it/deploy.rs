//! What `deploy/` holds is accepted by the programs that it is for: rsyslog, logrotate, Prometheus and systemd by
//! running them, Compose and Kubernetes by their schemas. What cannot be had here (Docker, HAProxy 2.9, snmp_exporter,
//! a cluster) is named in docs/deploying.md.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{Child, free_port, program, root, succeeds};

fn deploy(path: &str) -> PathBuf {
    root().join("deploy").join(path)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The documents of a YAML file.
fn yaml(path: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(&read(&root().join(path)))
        .map(|document| {
            Value::deserialize(document).unwrap_or_else(|error| panic!("{path}: {error}"))
        })
        .collect()
}

/// A checker that tests/install-deps.sh puts into a Python environment of the tests.
pub(crate) fn python_tool(name: &str) -> PathBuf {
    let path = root().join("tests/.venv/bin").join(name);
    assert!(
        path.is_file(),
        "`{name}` is not installed; tests/install-deps.sh installs it"
    );
    path
}

/// The receiver's configuration as a test can run it: in `directory`, with a port and a group that exist here.
fn receiver(directory: &Path, input: &str, port: u16) -> PathBuf {
    let here = directory.display().to_string();
    let text = [
        "rsyslog/appliances.conf",
        &format!("rsyslog/appliances-{input}.conf"),
    ]
    .map(|file| read(&deploy(file)))
    .join("\n");
    for expected in [
        "fileGroup=\"appliance-logs\"",
        "queue.spoolDirectory=",
        "queue.maxDiskSpace=",
        ":::secpath-replace%",
        "dynaFileCacheSize=\"1000\"",
    ] {
        assert!(text.contains(expected), "no {expected}");
    }
    let group = succeeds(Command::new(program("id")).arg("-gn")).out;
    let text = text
        .replace(
            "fileGroup=\"appliance-logs\"",
            &format!("fileGroup=\"{}\"", group.trim()),
        )
        .replace("/var/log/appliances/", &format!("{here}/"))
        .replace("/var/spool/rsyslog", &here)
        .replace("/etc/rsyslog.d/tls/", &format!("{here}/"))
        .replace("/etc/rsyslog.d/", &format!("{here}/"))
        .replace(
            "port=\"514\"",
            &format!("port=\"{port}\" address=\"127.0.0.1\""),
        );
    // The check wants to see the files of the TLS variant, not to use them.
    for file in ["ca.pem", "collector.pem", "collector.key"] {
        std::fs::write(directory.join(file), "").expect("a file");
    }
    let table = read(&deploy("rsyslog/appliances.lookup.json"));
    std::fs::write(
        directory.join("appliances.lookup.json"),
        table.replace("192.0.2.11", "127.0.0.1"),
    )
    .expect("a table");
    let path = directory.join("rsyslog.conf");
    std::fs::write(&path, text).expect("a file");
    path
}

#[test]
fn rsyslog_accepts_the_receiver() {
    for input in ["tcp", "tls"] {
        let directory = tempfile::tempdir().expect("a directory");
        let config = receiver(directory.path(), input, 514);
        succeeds(
            Command::new(program("rsyslogd"))
                .arg("-N1")
                .arg("-f")
                .arg(config),
        );
    }
}

/// A sender may claim any name; the file and the name in the line come from its address.
#[test]
fn rsyslog_names_appliances_by_address_and_keeps_the_priority() {
    let directory = tempfile::tempdir().expect("a directory");
    let port = free_port();
    let config = receiver(directory.path(), "tcp", port);
    let mut rsyslog = Child::start(
        Command::new(program("rsyslogd"))
            .args(["-n", "-iNONE", "-f"])
            .arg(config),
    );
    let mut sender = rsyslog.wait_for("open port", Duration::from_secs(20), || {
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    sender
        .write_all(
            b"<165>Feb  9 12:05:01 hsm9 ipmievd: Fan sensor Fan2A . Lower Critical going low  (Reading 0 < Threshold 2000 RPM)\n\
              <174>Feb  9 12:05:02 other NTLS[1234]: info : 0 : Incoming connection request... : 192.0.2.1/59415\n",
        )
        .expect("sent");
    let file = directory.path().join("hsm1.log");
    let lines = rsyslog.wait_for("two lines", Duration::from_secs(20), || {
        let text = std::fs::read_to_string(&file).ok()?;
        let lines: Vec<String> = text.lines().map(String::from).collect();
        (lines.len() == 2).then_some(lines)
    });
    let mode = file.metadata().expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode, 0o640);
    assert!(lines[0].starts_with("<165>"), "{}", lines[0]);
    assert!(
        lines[0].ends_with(" hsm1 ipmievd: Fan sensor Fan2A . Lower Critical going low  (Reading 0 < Threshold 2000 RPM)"),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].ends_with(
            " hsm1 NTLS[1234]: info : 0 : Incoming connection request... : 192.0.2.1/59415"
        ),
        "{}",
        lines[1]
    );

    // And the exporter reads what rsyslog writes.
    let metrics = succeeds(
        Command::new(env!("CARGO_BIN_EXE_appliance_log_exporter"))
            .arg("replay")
            .arg(&file),
    )
    .out;
    for sample in [
        r#"ipmi_sensor_state{appliance="hsm1",name="Fan2A",type="Fan"} 2"#,
        r#"log_messages_total{appliance="hsm1",program="ipmievd",severity="notice"} 1"#,
        r#"log_messages_total{appliance="hsm1",program="NTLS",severity="info"} 1"#,
    ] {
        assert!(metrics.contains(sample), "no {sample} in\n{metrics}");
    }
}

#[test]
fn logrotate_accepts_the_rotation_and_it_never_copies() {
    let directory = tempfile::tempdir().expect("a directory");
    let said = succeeds(
        Command::new(program("logrotate"))
            .arg("-d")
            .arg("-s")
            .arg(directory.path().join("state"))
            .arg(deploy("logrotate/appliances")),
    )
    .all();
    assert!(
        said.contains("rotating pattern: /var/log/appliances/*.log"),
        "{said}"
    );
    assert!(!said.contains("error"), "{said}");
    let lines = read(&deploy("logrotate/appliances"));
    assert!(!lines.lines().any(|line| line.trim() == "copytruncate"));
}

#[test]
fn prometheus_accepts_its_configurations() {
    for file in [
        "prometheus/prometheus.yml",
        "prometheus/many-collectors.yml",
        "compose/prometheus.yml",
    ] {
        succeeds(
            Command::new(program("promtool"))
                .args(["check", "config", "--lint-fatal"])
                .arg(deploy(file)),
        );
    }
    succeeds(
        Command::new(program("promtool"))
            .args(["check", "config", "--syntax-only"])
            .arg(deploy("prometheus/many-collectors.yml")),
    );
    succeeds(
        Command::new(program("amtool"))
            .arg("check-config")
            .arg(deploy("compose/alertmanager.yml")),
    );
}

/// The same relabelling everywhere, or dashboards, alerts and joins differ from site to site. The exporter keeps a label:
/// two that hear of the same appliance would write the same series without it.
#[test]
fn the_appliance_becomes_the_instance_everywhere_and_the_exporter_stays_the_collector() {
    let collector = json!([{"source_labels": ["__address__"], "target_label": "collector"}]);
    let instance = json!([
        {"source_labels": ["appliance"], "regex": "(.+)", "target_label": "instance"}
    ]);
    for file in [
        "prometheus/prometheus.yml",
        "prometheus/many-collectors.yml",
        "compose/prometheus.yml",
    ] {
        let config = yaml(&format!("deploy/{file}")).remove(0);
        let job = &config["scrape_configs"][0];
        assert_eq!(job["relabel_configs"], collector, "{file}");
        assert_eq!(job["metric_relabel_configs"], instance, "{file}");
    }
    let monitor = yaml("deploy/kubernetes/servicemonitor.yaml").remove(0);
    let endpoint = &monitor["spec"]["endpoints"][0];
    assert_eq!(
        endpoint["relabelings"],
        json!([{"sourceLabels": ["pod"], "targetLabel": "collector"}])
    );
    assert_eq!(
        endpoint["metricRelabelings"],
        json!([
            {"sourceLabels": ["appliance"], "regex": "(.+)", "targetLabel": "instance"},
            {"sourceLabels": ["appliance"], "regex": "(.+)", "targetLabel": "pod", "replacement": ""},
        ])
    );
}

/// systemd rates how much a service could do if it were taken over: 0 is nothing, 10 everything; ours may do 1.3.
#[test]
fn the_service_is_locked_in() {
    let said = succeeds(
        Command::new(program("systemd-analyze"))
            .args(["security", "--offline=true", "--threshold=13"])
            .arg(deploy("systemd/appliance_log_exporter.service")),
    )
    .all();
    assert!(said.contains("Overall exposure level"), "{said}");
    let unit = read(&deploy("systemd/appliance_log_exporter.service"));
    for line in [
        "Type=notify",
        "WatchdogSec=60",
        "DynamicUser=yes",
        "PrivateNetwork=yes",
        "RestrictAddressFamilies=AF_UNIX",
        "StateDirectory=appliance_log_exporter",
    ] {
        assert!(unit.lines().any(|it| it == line), "no {line}");
    }
}

/// `Type=notify` and `WatchdogSec=` hold the service to this.
#[test]
fn the_service_tells_systemd_that_it_is_ready_and_alive() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("notify");
    let notify = UnixDatagram::bind(&path).expect("a socket");
    notify
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a deadline");
    // Something to read before it is ready: a start may take longer than systemd grants by itself.
    let line = "Nov 28 10:00:00 hsm1 sshd[1]: Connection closed by 192.0.2.1 port 50000\n";
    std::fs::write(directory.path().join("hsm1.log"), line.repeat(50_000)).expect("a backlog");
    let service = Child::start(
        Command::new(env!("CARGO_BIN_EXE_appliance_log_exporter"))
            .arg(format!("--log.file={}/*.log", directory.path().display()))
            .arg(format!("--web.listen-address=127.0.0.1:{}", free_port()))
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "1000000"),
    );
    let told = |what: &str| {
        let mut bytes = [0; 4096];
        loop {
            let length = match notify.recv(&mut bytes) {
                // A socket with a deadline is not asked again by itself after a signal.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                received => received
                    .unwrap_or_else(|error| panic!("no {what}: {error}\n{}", service.output())),
            };
            let text = String::from_utf8_lossy(&bytes[..length]);
            if text.lines().any(|line| line == what) {
                return;
            }
        }
    };
    told("EXTEND_TIMEOUT_USEC=1000000");
    told("READY=1");
    told("WATCHDOG=1");
    told("WATCHDOG=1");
    service.signal("TERM");
    told("STOPPING=1");
}

#[test]
fn systemd_accepts_the_units() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut files = Vec::new();
    for name in [
        "appliance_log_exporter.service",
        "appliance_log_exporter.socket",
        "appliance_log_exporter-syslog.socket",
    ] {
        let file = directory.path().join(name);
        // The program is not installed here; any other will do for the check.
        let unit = read(&deploy(&format!("systemd/{name}")))
            .replace("/usr/bin/appliance_log_exporter", "/bin/true");
        std::fs::write(&file, unit).expect("a unit");
        files.push(file);
    }
    let said = succeeds(
        Command::new(program("systemd-analyze"))
            .args(["verify", "--man=no"])
            .args(&files),
    )
    .all();
    assert_eq!(said, "");
}

#[test]
fn systemd_makes_the_group_and_the_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let image = format!("--root={}", directory.path().display());
    std::fs::create_dir(directory.path().join("etc")).expect("a directory");
    succeeds(
        Command::new(program("systemd-sysusers"))
            .arg(&image)
            .arg(deploy("systemd/appliance_log_exporter.sysusers")),
    );
    let groups = read(&directory.path().join("etc/group"));
    assert!(groups.contains("appliance-logs:"), "{groups}");
    succeeds(
        Command::new(program("systemd-tmpfiles"))
            .args(["--create", &image])
            .arg(deploy("systemd/appliance_log_exporter.tmpfiles")),
    );
    let logs = directory.path().join("var/log/appliances");
    let mode = logs.metadata().expect("the directory").permissions().mode();
    assert_eq!(mode & 0o7777, 0o750);
}

#[test]
fn the_environment_file_is_read_by_shell_and_systemd_alike() {
    let said = succeeds(Command::new(program("sh")).arg("-c").arg(format!(
        "set -eu; . '{}'; printf %s \"$ARGS\"",
        deploy("systemd/appliance_log_exporter.default").display()
    )))
    .all();
    assert_eq!(said, "--log.file=/var/log/appliances/{appliance}.log");
}

#[test]
fn scripts_are_clean() {
    for script in ["compose/generator/generate.sh", "compose/smoke.sh"] {
        succeeds(Command::new(program("shellcheck")).arg(deploy(script)));
    }
    for script in ["helm.sh", "install-deps.sh", "walk.sh"] {
        succeeds(Command::new(program("shellcheck")).arg(root().join("tests").join(script)));
    }
}

#[test]
fn compose_fits_its_schema_and_mounts_what_is_there() {
    succeeds(
        Command::new(python_tool("check-jsonschema"))
            .args(["--builtin-schema", "vendor.compose-spec"])
            .arg(deploy("compose/compose.yaml")),
    );
    let compose = yaml("deploy/compose/compose.yaml").remove(0);
    let services = compose["services"].as_object().expect("services");
    let mut mounted = 0;
    let played = ("x-appliance".to_string(), compose["x-appliance"].clone());
    for (name, service) in services.iter().chain([(&played.0, &played.1)]) {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume.as_str().and_then(|it| it.split(':').next());
            let source = source.expect("a source");
            if source.starts_with('.') {
                let path = deploy("compose").join(source);
                assert!(path.exists(), "{name}: {source}");
                mounted += 1;
            } else {
                assert!(
                    compose["volumes"].get(source).is_some(),
                    "{name}: no volume {source}"
                );
            }
        }
    }
    assert!(mounted > 8);

    // Each played appliance has its name from the lookup table, by its address.
    let table: Value =
        serde_json::from_str(&read(&deploy("compose/rsyslog/appliances.lookup.json")))
            .expect("a table");
    for entry in table["table"].as_array().expect("entries") {
        let name = entry["value"].as_str().expect("a name");
        assert_eq!(
            services[name]["networks"]["stack"]["ipv4_address"], entry["index"],
            "{name}"
        );
    }
}

/// What the played appliances say is what rules know.
#[test]
fn rules_know_every_line_of_the_generator() {
    let script = read(&deploy("compose/generator/generate.sh"));
    let mut lines = String::new();
    for line in script.lines() {
        let Some((priority, text)) = line
            .trim()
            .strip_prefix("line ")
            .and_then(|rest| rest.split_once(" '"))
        else {
            continue;
        };
        let text = text.trim_end_matches('\'');
        lines += &format!("<{priority}>2026-11-20T12:00:00+00:00 hsm1 {text}\n");
    }
    let mut explain = Command::new(env!("CARGO_BIN_EXE_appliance_log_exporter"))
        .args(["explain", "--format", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the exporter");
    // Dropped at once, which ends its input.
    explain
        .stdin
        .take()
        .expect("its input")
        .write_all(lines.as_bytes())
        .expect("written");
    let output = explain.wait_with_output().expect("its output");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.lines().count() > 10, "{said}");
    for line in said.lines() {
        let explained: Value = serde_json::from_str(line).expect("JSON");
        assert!(explained["rule"].is_string(), "{line}");
    }
}

#[test]
fn grafana_provisioning_finds_the_data_source_and_the_dashboards() {
    let source = yaml("deploy/grafana/provisioning/datasources/prometheus.yaml").remove(0);
    assert_eq!(source["apiVersion"], 1);
    assert_eq!(source["datasources"][0]["type"], "prometheus");
    assert_eq!(source["datasources"][0]["isDefault"], true);
    let provider = yaml("deploy/grafana/provisioning/dashboards/appliances.yaml").remove(0);
    let path = provider["providers"][0]["options"]["path"]
        .as_str()
        .expect("a path");
    let compose = read(&deploy("compose/compose.yaml"));
    assert!(compose.contains(&format!("../../grafana/dashboards:{path}:ro")));
}

#[test]
fn kubernetes_manifests_fit_their_schemas() {
    let kustomization = yaml("deploy/kubernetes/kustomization.yaml").remove(0);
    let mut listed = BTreeSet::new();
    for resource in kustomization["resources"].as_array().expect("resources") {
        // kustomize refuses what it is given twice.
        assert!(listed.insert(resource.as_str()), "{resource} twice");
        let path = deploy("kubernetes").join(resource.as_str().expect("a path"));
        assert!(path.exists(), "{resource}");
        if path.is_dir() {
            continue;
        }
        let said = succeeds(
            Command::new(python_tool("kubernetes-validate"))
                .arg("--strict")
                .arg(&path),
        )
        .all();
        // Resources of the Prometheus operator are no part of Kubernetes; the next test looks at them.
        let foreign = said.contains("monitoring.coreos.com");
        assert!(foreign || said.contains("passed for resource"), "{said}");
    }
    let mut dashboards = 0;
    for base in ["deploy/rsyslog", "grafana"] {
        let kustomization = yaml(&format!("{base}/kustomization.yaml")).remove(0);
        for map in kustomization["configMapGenerator"]
            .as_array()
            .expect("maps")
        {
            let mut bytes = 0;
            for file in map["files"].as_array().expect("files") {
                let path = root().join(base).join(file.as_str().expect("a path"));
                let text = std::fs::read_to_string(&path)
                    .unwrap_or_else(|error| panic!("{base}: {file}: {error}"));
                // `kubectl apply` keeps the whole map in an annotation, as a string within JSON.
                bytes += serde_json::to_string(&text).expect("JSON").len();
                dashboards += usize::from(base == "grafana");
            }
            assert!(
                bytes < 250_000,
                "{map}: {bytes} bytes, and 262,144 is the limit of annotations"
            );
        }
    }
    let there = std::fs::read_dir(root().join("grafana/dashboards"))
        .expect("dashboards")
        .count();
    assert_eq!(dashboards, there);
}

#[test]
fn kubernetes_pods_may_do_nothing_they_need_not() {
    let set = yaml("deploy/kubernetes/statefulset.yaml").remove(0);
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(
        pod["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    let containers = pod["containers"].as_array().expect("containers");
    assert_eq!(containers.len(), 2);
    for container in containers {
        let name = &container["name"];
        let context = &container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}), "{name}");
        assert!(
            container["resources"]["limits"]["memory"].is_string(),
            "{name}"
        );
    }

    // What is scraped is what the service offers.
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    let services = yaml("deploy/kubernetes/service.yaml");
    let metrics = services.last().expect("a service");
    assert_eq!(&metrics["spec"]["selector"], labels);
    assert_eq!(metrics["metadata"]["name"], set["spec"]["serviceName"]);
    let monitor = yaml("deploy/kubernetes/servicemonitor.yaml").remove(0);
    assert_eq!(monitor["apiVersion"], "monitoring.coreos.com/v1");
    assert_eq!(
        monitor["spec"]["selector"]["matchLabels"],
        metrics["metadata"]["labels"]
    );
    assert_eq!(
        monitor["spec"]["endpoints"][0]["port"],
        metrics["spec"]["ports"][0]["name"]
    );
}

/// No image can be built here; what it must be is written in its file.
#[test]
fn the_container_is_empty_but_for_the_exporter_and_nobodys() {
    let file = read(&deploy("container/Containerfile"));
    let last = file.rsplit("\nFROM ").next().expect("a stage");
    assert!(last.starts_with("scratch\n"), "{last}");
    assert!(last.contains("\nUSER 65532:65532\n"), "{last}");
    let compose = yaml("deploy/compose/compose.yaml").remove(0);
    let exporter = &compose["services"]["exporter"];
    assert_eq!(exporter["read_only"], true);
    assert_eq!(exporter["cap_drop"], json!(["ALL"]));
}

#[test]
fn the_snmp_module_asks_for_what_it_shows() {
    let module = &yaml("deploy/snmp_exporter/luna.yml").remove(0)["modules"]["luna_hsm"];
    let asked: Vec<&str> = module["get"]
        .as_array()
        .expect("get")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let shown: Vec<String> = module["metrics"]
        .as_array()
        .expect("metrics")
        .iter()
        .map(|metric| format!("{}.0", metric["oid"].as_str().expect("an oid")))
        .collect();
    assert_eq!(asked, shown);
}
