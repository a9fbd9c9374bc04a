#!/bin/sh
# Lints the Helm chart and renders it with every documented value, through the real helm 3 and 4, and holds what comes out against
# the schemas of Kubernetes, of the Prometheus operator, and promtool. `make helm`; not part of `make test`, since helm and
# kubeconform are compiled the first time: Go, a network and 5 to 10 minutes. They are kept outside of the repository.
set -eu
cd "$(dirname "$0")/.."
chart=deploy/helm/appliance-log-exporter
cache=${XDG_CACHE_HOME:-$HOME/.cache}/appliance_log_exporter
operator=github.com/prometheus-operator/prometheus-operator@v0.85.0
export CGO_ENABLED=0 GOBIN="$cache/bin" GOFLAGS=-modcacherw GOTOOLCHAIN=local
[ -x "$GOBIN/helm" ] || go install helm.sh/helm/v3/cmd/helm@v3.22.0
[ -x "$GOBIN/helm4/helm" ] || GOBIN="$GOBIN/helm4" go install helm.sh/helm/v4/cmd/helm@v4.3.2
[ -x "$GOBIN/kubeconform" ] || go install github.com/yannh/kubeconform/cmd/kubeconform@v0.7.0
definitions=$(go mod download -json "$operator" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')/example/prometheus-operator-crd

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Links in the chart lead to what it shares with the other deployments; helm says so for each.
helm() { "$GOBIN/$version" "$@" 2> "$work/err" || { grep -v 'found symbolic link' "$work/err" >&2; return 1; }; }
render() { helm template release "$chart" --kube-version 1.31.0 "$@"; }

tests/.venv/bin/python - "$definitions" "$work" <<'PYTHON'
"""The operator's definitions as JSON schemas, as kubeconform wants them."""
import json, pathlib, sys
import yaml

# An enumeration of the definitions has the value `=`, which YAML 1.1 keeps for itself.
yaml.SafeLoader.add_constructor("tag:yaml.org,2002:value", lambda _, node: node.value)

def closed(schema):
    # As an API server with strict validation: a key that is not declared is a mistake.
    if isinstance(schema, dict):
        if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        for value in schema.values():
            closed(value)
    elif isinstance(schema, list):
        for value in schema:
            closed(value)

for path in pathlib.Path(sys.argv[1]).glob("*.yaml"):
    definition = yaml.safe_load(path.read_text())
    kind = definition["spec"]["names"]["kind"].lower()
    for version in definition["spec"]["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        schema["properties"]["metadata"] = {"type": "object", "additionalProperties": True}
        closed(schema)
        (pathlib.Path(sys.argv[2]) / f"{kind}_{version['name']}.json").write_text(json.dumps(schema))
PYTHON

checked() {
  rm -rf "$work/parts" && mkdir "$work/parts"
  tests/.venv/bin/python - "$1" "$work/parts" <<'PYTHON'
"""Each resource in a file of its own: those of Kubernetes, those of the operator, and the rules that these hold."""
import pathlib, sys
import yaml

for number, resource in enumerate(yaml.safe_load_all(pathlib.Path(sys.argv[1]).read_text())):
    if resource is None:
        continue
    foreign = "monitoring.coreos.com" in resource["apiVersion"]
    parts = pathlib.Path(sys.argv[2])
    (parts / f"{'operator' if foreign else 'kubernetes'}-{number}.yaml").write_text(yaml.safe_dump(resource))
    if resource["kind"] == "PrometheusRule":
        (parts / f"rules-{number}.yaml").write_text(yaml.safe_dump(resource["spec"]))
PYTHON
  for part in "$work"/parts/kubernetes-*.yaml; do
    tests/.venv/bin/kubernetes-validate --strict "$part" > "$work/said" || { cat "$work/said" "$part" >&2; exit 1; }
  done
  for part in "$work"/parts/operator-*.yaml; do
    [ ! -e "$part" ] || "$GOBIN/kubeconform" -strict -schema-location "$work/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json" "$part"
  done
  for part in "$work"/parts/rules-*.yaml; do
    [ ! -e "$part" ] || promtool check rules "$part" > /dev/null
  done
  echo "$1: $(find "$work/parts" -name 'kubernetes-*' -o -name 'operator-*' | wc -l) resources"
}

for version in helm helm4/helm; do
  helm lint --strict "$chart" > /dev/null
  for values in everything kafka; do
    helm lint --strict "$chart" --values "$chart/ci/$values-values.yaml" > /dev/null
  done
  render > "$work/defaults.yaml"
  render --values "$chart/ci/everything-values.yaml" > "$work/everything.yaml"
  checked "$work/defaults.yaml"
  checked "$work/everything.yaml"
  render --values "$chart/ci/kafka-values.yaml" > "$work/kafka.yaml"
  checked "$work/kafka.yaml"
  # What the replicas read is a configuration, if its files are there.
  tests/.venv/bin/python - "$work" "$chart/ci/kafka-values.yaml" <<'PYTHON'
"""The configuration of the replicas, with files for those of the secret; their number is that of the flag."""
import pathlib, sys
import yaml

work, values = pathlib.Path(sys.argv[1]), yaml.safe_load(pathlib.Path(sys.argv[2]).read_text())
found = {}
for resource in yaml.safe_load_all((work / "kafka.yaml").read_text()):
    if resource is not None:
        found.setdefault(resource["kind"], []).append(resource)
(stateful_set,), (service,), (settings,) = found["StatefulSet"], found["Service"], found["ConfigMap"]
replicas = stateful_set["spec"]["replicas"]
(container,) = stateful_set["spec"]["template"]["spec"]["containers"]
assert f"--shard=auto/{replicas}" in container["args"] and replicas == values["kafka"]["replicas"], container
assert stateful_set["spec"]["serviceName"] == service["metadata"]["name"]
(monitor,) = found["ServiceMonitor"]
assert "relabelings" not in monitor["spec"]["endpoints"][0], "series that move must not be labelled by replica"
text = settings["data"]["config.yaml"].replace("/etc/appliance_log_exporter_kafka/", f"{work}/")
(work / "config.yaml").write_text(text)
(work / "password").write_text("secret\n")
PYTHON
  : > "$work/ca.pem"
  cargo run --locked --quiet --features kafka -- check --config.file "$work/config.yaml" --shard=0/5 > "$work/said" ||
    { cat "$work/said" >&2; exit 1; }
  grep -q 'vector(55)' "$work/everything.yaml" || { echo 'the threshold is not that of the values' >&2; exit 1; }

  # What the schema of the values refuses.
  for wrong in kafka.enabled=true kafka.replicas=0 kafka.settings.topic=x tls.enabled=true service.type=ClusterIP 'extraArgs[0]=x' nope=1 image.pullPolicy=Sometimes \
    prometheusRule.enabled=true,prometheusRule.thresholds.nope=1; do
    ! render --set "$wrong" > /dev/null 2>&1 || { echo "accepted: $wrong" >&2; exit 1; }
  done
  ! render --values "$chart/ci/kafka-values.yaml" --set 'config.sources[0].name=x' > /dev/null 2>&1 ||
    { echo 'accepted: sources beside those of kafka' >&2; exit 1; }
done
echo 'helm: all right'
