#!/usr/bin/env python3
"""Builds what is published: binaries, packages, an image archive, a bill of materials and checksums.

    deploy/dist.py OUT                     builds the static and the Debian binary, and packs them
    deploy/dist.py OUT --static B --debian B   packs binaries that are there

The binaries are auditable: they hold the list of their crates, which `cargo audit bin` and other scanners read. The same
commit gives the same bytes: times are those of the commit, owners are root, files are sorted, and paths of this machine
are not in the binaries. Needs cargo-auditable, cargo-deb and cargo-generate-rpm, as tests/install-deps.sh puts into
tests/.tools. The image is written as an OCI archive, for which no container engine is needed: `skopeo copy oci-archive:…`, `podman load -i …`.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "tests/.tools/bin"
NAME = "appliance_log_exporter"
TARGET = "x86_64-unknown-linux-gnu"


def run(*command, **environment):
    return subprocess.run(
        command, cwd=ROOT, check=True, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


def build(directory, flags, epoch, revision):
    """A stripped release binary without paths of this machine."""
    cargo = os.environ.get("CARGO_HOME", str(Path.home() / ".cargo"))
    remap = f"--remap-path-prefix={ROOT}=/build --remap-path-prefix={cargo}=/cargo"
    run(
        str(TOOLS / "cargo-auditable"), "auditable", "build", "--release", "--locked",
        "--target", TARGET, "--target-dir", str(directory),
        RUSTFLAGS=f"{flags} {remap}".strip(), SOURCE_DATE_EPOCH=epoch, GIT_REVISION=revision, CARGO_INCREMENTAL="0",
    )
    return directory / TARGET / "release" / NAME


def add(archive, name, data, mode, epoch):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(data), mode, int(epoch)
    entry.uname = entry.gname = "root"
    archive.addfile(entry, io.BytesIO(data))


def tarball(path, files, epoch):
    """A gzipped tar of (name, bytes, mode), the same for the same files."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data, mode in sorted(files):
            add(archive, name, data, mode, epoch)
    path.write_bytes(gzip.compress(plain.getvalue(), mtime=0))


def image(path, binary, version, revision, epoch):
    """An OCI image of the one binary, as deploy/container/Containerfile builds it."""
    created = run("date", "-u", "-d", f"@{epoch}", "+%Y-%m-%dT%H:%M:%SZ")
    blobs = {}

    def blob(data, kind):
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        add(archive, f"usr/bin/{NAME}", binary.read_bytes(), 0o755, epoch)
    zipped = gzip.compress(layer.getvalue(), mtime=0)
    config = {
        "created": created,
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "User": "65532:65532",
            "ExposedPorts": {"10067/tcp": {}},
            "Entrypoint": [f"/usr/bin/{NAME}"],
            "Cmd": ["--log.file=/var/log/appliances/{appliance}.log", "--state.dir=/var/lib/exporter"],
            "Labels": {
                "org.opencontainers.image.title": NAME,
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.revision": revision,
                "org.opencontainers.image.licenses": "Apache-2.0",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()]},
        "history": [{"created": created, "created_by": "deploy/dist.py"}],
    }
    dump = lambda value: json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
    manifest = dump({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(dump(config), "config.v1+json"),
        "layers": [blob(zipped, "layer.v1.tar+gzip")],
    })
    entry = blob(manifest, "manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": version}
    entry["platform"] = {"architecture": "amd64", "os": "linux"}
    index = dump({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]})
    files = [("oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o644), ("index.json", index, 0o644)]
    files += [(name, data, 0o644) for name, data in blobs.items()]
    with tarfile.open(path, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data, mode in sorted(files):
            add(archive, name, data, mode, epoch)


def bill_of_materials(path, version):
    """CycloneDX 1.5: every crate that is linked in, with its licence and checksum."""
    metadata = json.loads(run("cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", TARGET))
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    linked, todo = set(), [metadata["resolve"]["root"]]
    while todo:
        identity = todo.pop()
        if identity in linked:
            continue
        linked.add(identity)
        for dependency in nodes[identity]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                todo.append(dependency["pkg"])
    checksums, package = {}, {}
    for line in (ROOT / "Cargo.lock").read_text().splitlines():
        key, _, value = line.partition(" = ")
        if line == "[[package]]":
            package = {}
        elif key in ("name", "version", "checksum"):
            package[key] = value.strip('"')
            if key == "checksum":
                checksums[package["name"], package["version"]] = package[key]
    crates = {crate["id"]: crate for crate in metadata["packages"]}
    url = lambda crate: f"pkg:cargo/{crate['name']}@{crate['version']}"
    components = []
    for crate in sorted((crates[i] for i in linked if i != metadata["resolve"]["root"]), key=url):
        component = {
            "type": "library", "bom-ref": url(crate), "purl": url(crate),
            "name": crate["name"], "version": crate["version"],
        }
        if crate["license"]:
            component["licenses"] = [{"expression": crate["license"].replace("/", " OR ")}]
        if (crate["name"], crate["version"]) in checksums:
            component["hashes"] = [{"alg": "SHA-256", "content": checksums[crate["name"], crate["version"]]}]
        components.append(component)
    text = json.dumps({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {"component": {
            "type": "application", "name": NAME, "version": version, "bom-ref": f"pkg:cargo/{NAME}@{version}",
            "licenses": [{"license": {"id": "Apache-2.0"}}],
        }},
        "components": components,
    }, indent=1, sort_keys=True)
    path.write_text(text + "\n")


def chart(out, version, epoch):
    """The Helm chart, with what it links to."""
    folder = ROOT / "deploy/helm/appliance-log-exporter"
    files = []
    for directory, _, names in os.walk(folder, followlinks=True):
        inside = Path(directory).relative_to(folder)
        if inside.parts[:1] == ("ci",) or "tests" in inside.parts:
            continue
        for name in names:
            path = Path("appliance-log-exporter") / inside / name
            files.append((str(path), (Path(directory) / name).read_bytes(), 0o644))
    tarball(out / f"appliance-log-exporter-{version}.tgz", files, epoch)


def packages(out, binary, version, epoch):
    """The Debian and the RPM package of one binary."""
    target = out / ".pack"
    (target / "release").mkdir(parents=True)
    shutil.copy2(binary, target / "release" / NAME)
    environment = {"CARGO_TARGET_DIR": str(target), "SOURCE_DATE_EPOCH": epoch}
    deb = out / f"appliance-log-exporter_{version}_amd64.deb"
    run(str(TOOLS / "cargo-deb"), "--no-build", "--no-strip", "--no-dbgsym", "--output", str(deb), **environment)
    rpm = out / f"appliance-log-exporter-{version}.x86_64.rpm"
    run(str(TOOLS / "cargo-generate-rpm"), "--output", str(rpm), **environment)
    shutil.rmtree(target)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--static", type=Path, help="a static binary that is there")
    parser.add_argument("--debian", type=Path, help="a dynamic binary that is there")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    if out.exists() and any(out.iterdir()):
        sys.exit(f"{out} is not empty")
    out.mkdir(parents=True, exist_ok=True)

    epoch = run("git", "log", "-1", "--format=%ct")
    revision = run("git", "rev-parse", "--short=12", "HEAD")
    if run("git", "status", "--porcelain", "--untracked-files=no"):
        revision += "-dirty"
    metadata = json.loads(run("cargo", "metadata", "--format-version", "1", "--no-deps", "--locked"))
    version = metadata["packages"][0]["version"]
    cache = Path(metadata["target_directory"]) / "dist"
    static = arguments.static or build(cache / "static", "-C target-feature=+crt-static", epoch, revision)
    debian = arguments.debian or build(cache / "debian", "", epoch, revision)

    # Stripped copies, so that what was built stays as it is.
    stripped = {}
    for kind, binary in (("static", static), ("debian", debian)):
        stripped[kind] = out / f".{kind}"
        run("strip", "-o", str(stripped[kind]), str(binary.resolve()))
    base = f"{NAME}-{version}.linux-amd64"
    files = [(f"{base}/{NAME}", stripped["static"].read_bytes(), 0o755)]
    for name in ("LICENSE", "README.md", "CHANGELOG.md", "SECURITY.md"):
        files.append((f"{base}/{name}", (ROOT / name).read_bytes(), 0o644))
    for folder in ("docs", "deploy", "rules/alerts", "grafana/dashboards"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix not in (".png", ".pyc") and "helm" not in path.parts:
                files.append((f"{base}/{path.relative_to(ROOT)}", path.read_bytes(), 0o644))
    tarball(out / f"{base}.tar.gz", files, epoch)
    image(out / f"{base}.oci.tar", stripped["static"], version, revision, epoch)
    packages(out, stripped["debian"], version, epoch)
    chart(out, version, epoch)
    bill_of_materials(out / f"{NAME}-{version}.cdx.json", version)
    for binary in stripped.values():
        binary.unlink()
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(out.iterdir())]
    (out / "sha256sums.txt").write_text("".join(sums))
    print("".join(sums), end="")


main()
