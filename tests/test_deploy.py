"""The files in `deploy/`, as far as a machine without a container engine and with systemd asleep can try them."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from jsonschema.validators import validator_for

import crypto
from tests.conftest import World
from tests.service.server import ServiceServer
from tests.world.program import ROOT
from token_refresh.commands import _verb_in, whole_parser
from token_refresh.settings import _NAMES, load

DEPLOY = ROOT / "deploy"
UNITS = ("token-refresh.service", "token-refresh-http.service")
DOCKERFILE = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
WELL_HARDENED = 20  # of systemd's 100: below it stand units that have next to nothing beyond what they need
KUBERNETES = "1.37"
STOP_SECONDS = 120  # a refresh that is open is finished within 100


def run(
    *words: str | Path, folder: Path = ROOT, settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(folder)} | dict(settings or {})
    return subprocess.run(
        [str(word) for word in words], cwd=folder, env=environ, capture_output=True, text=True, timeout=60
    )


def unit(name: str) -> dict[str, list[str]]:
    """The settings of a unit: systemd allows a name several times, which `configparser` refuses."""
    found: dict[str, list[str]] = {}
    for name_, value in re.findall(r"^([A-Za-z]+)=(.*)$", (DEPLOY / "systemd" / name).read_text(), re.MULTILINE):
        found.setdefault(name_, []).append(value)
    return found


# --- systemd


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """What they start is on another machine: here a program stands for it that there is."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd here")
    for path in (DEPLOY / "systemd").glob("token-refresh*"):
        text = path.read_text().replace("/opt/token-refresh/.venv/bin/python", "/bin/true")
        (tmp_path / path.name).write_text(text.replace("Documentation=man:token-refresh(1)\n", ""))
    ended = run("systemd-analyze", "verify", *sorted(tmp_path.iterdir()), folder=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("name", UNITS)
def test_systemd_counts_the_units_among_the_well_protected(name: str) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd here")
    path = DEPLOY / "systemd" / name
    ended = run("systemd-analyze", "security", "--offline=yes", "--no-pager", f"--threshold={WELL_HARDENED}", path)
    assert ended.returncode == 0, ended.stdout


def test_both_units_have_the_same_secrets_folders_and_protection() -> None:
    kept = {"Description", "ExecStart", "Type", "Restart", "RestartSec", "SuccessExitStatus"}
    one, other = ({key: value for key, value in unit(name).items() if key not in kept} for name in UNITS)
    assert one == other


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_stops_no_refresh_in_the_middle_and_takes_secrets_as_credentials(name: str) -> None:
    settings = unit(name)
    assert settings["TimeoutStopSec"] == [str(STOP_SECONDS)]
    credentials = [line.partition(":")[0] for line in settings["LoadCredential"]]
    assert {"ENCRYPTION_KEY", "AIRTABLE_API_KEY"} <= set(credentials) <= _NAMES
    own = dict(word.split("=", 1) for word in shlex.split(settings["Environment"][0]))
    assert set(own) == {"TOKEN_REFRESH_HOME", "STATE_DIR_SPARE"}
    assert own["TOKEN_REFRESH_HOME"] == f"/var/lib/{settings['StateDirectory'][0]}"
    # PrivateTmp would take the default, /var/tmp, away at the end of each run.
    assert own["STATE_DIR_SPARE"] == f"/var/log/{settings['LogsDirectory'][0]}"


def test_a_run_that_found_another_one_or_single_failures_does_not_count_as_a_failed_unit() -> None:
    assert unit("token-refresh.service")["SuccessExitStatus"] == ["75 1"]
    assert "SuccessExitStatus" not in unit("token-refresh-http.service")


def test_the_timer_runs_as_often_as_the_settings_say_and_catches_up() -> None:
    timer = unit("token-refresh.timer")
    assert (timer["OnCalendar"], timer["Persistent"]) == (["*:0/15"], ["yes"])
    assert "REFRESH_INTERVAL=900" in (DEPLOY / "systemd/settings").read_text()


def test_a_command_by_hand_has_the_user_settings_and_credentials_of_the_service(tmp_path: Path) -> None:
    stub = tmp_path / "systemd-run"
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stub.chmod(0o755)
    ended = run(
        DEPLOY / "systemd/as-service", "bin/python", "a b", "*", folder=tmp_path,
        settings={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "TOKEN_REFRESH_UNIT": str(DEPLOY / "systemd/token-refresh.service"),
        },
    )  # fmt: skip
    words = ended.stdout.splitlines()
    assert ended.returncode == 0, ended.stderr
    assert words[words.index("--") + 1 :] == ["bin/python", "a b", "*"]
    given = unit("token-refresh.service")
    for name in (
        "User",
        "WorkingDirectory",
        "EnvironmentFile",
        "LoadCredential",
        "Environment",
        "StateDirectory",
        "UMask",
    ):
        assert [word for word in words if word.startswith(f"--property={name}=")] == [
            f"--property={name}={value}" for value in given[name]
        ]


# --- cron


def test_the_crontab_has_the_line_of_the_readme() -> None:
    [block] = re.findall(r"^```cron\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for line in (DEPLOY / "crontab").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == block.strip()
    start, end = lines[0].removeprefix("*/15 * * * * ").split("token_manager.py")
    assert all(start in line and line.endswith(end) for line in lines)


def test_logrotate_rotates_what_the_crontab_writes() -> None:
    [log] = re.findall(r"^(/.*) \{$", (DEPLOY / "logrotate.conf").read_text(), re.MULTILINE)
    assert log == "/opt/token-refresh/token_manager.log"
    assert ">>token_manager.log" in (DEPLOY / "crontab").read_text()
    if shutil.which("logrotate"):
        assert "error" not in run("logrotate", "--debug", DEPLOY / "logrotate.conf").stderr


def test_every_command_in_the_files_is_one_that_the_program_understands() -> None:
    """Cron's lines, what systemd starts, and what containers run."""
    given = [*(DEPLOY / "crontab").read_text().splitlines(), *unit("token-refresh.service")["ExecStart"]]
    given += [
        shlex.join(COMPOSE["services"]["job"]["command"]),
        shlex.join(pods()["CronJob"]["containers"][0]["command"]),
    ]
    given += [" ".join(json.loads(line)) for line in re.findall(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE)]
    lines = [line.partition("token_manager.py")[2].partition(">>")[0] for line in given if line[:1] != "#"]
    assert len(lines) >= 7
    for line in lines:
        _, words = _verb_in(shlex.split(line))
        whole_parser().parse(words)


# --- the image


def copied() -> Iterator[tuple[str, str]]:
    """What the image gets from the clone: source and target."""
    for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE):
        *sources, target = line.split()
        yield from ((source, target) for source in sources)


def test_the_image_has_a_user_of_its_own_and_keeps_state_on_volumes() -> None:
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["10001:10001"]
    assert 'VOLUME ["/state", "/spare"]' in DOCKERFILE
    assert re.search(r"^HEALTHCHECK ", DOCKERFILE, re.MULTILINE)
    assert not re.search(r"^ADD |:latest|(KEY|SECRET|PASSWORD)=", DOCKERFILE, re.MULTILINE)


def test_the_image_is_made_of_locked_packages_and_of_files_that_the_build_context_has() -> None:
    locks = re.search(r"for lock in (.*?);", DOCKERFILE)
    assert locks is not None
    assert [lock for lock in locks[1].split() if not (ROOT / lock).exists()] == []
    assert "--require-hashes" in DOCKERFILE
    allowed = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert {source.rstrip("/") for source, _ in copied()} == allowed


@pytest.mark.long
def test_what_the_image_copies_is_all_that_the_program_needs(world: World, tmp_path: Path) -> None:
    image = tmp_path / "image"
    for source, target in copied():
        place = image / target / ("" if target.endswith("/") and target != "./" else source)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / source, place)
    for path in (image, *image.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    ended = run(sys.executable, "token_manager.py", folder=image, settings=world.program.environment())
    assert (ended.returncode, "nothing due" in ended.stderr) == (0, True), ended.stderr

    code = "import token_refresh.service.app, token_refresh.service.__main__"
    ended = run(sys.executable, "-c", code, folder=image, settings=world.program.environment())
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.long
def test_a_container_is_healthy_while_runs_come_and_tokens_live(world: World) -> None:
    """Without a call to the table: it reads what the last run left."""
    [check] = re.findall(r'^HEALTHCHECK .*CMD \["sh", "-c", "(.*)"\]$', DOCKERFILE, re.MULTILINE)
    check = check.replace("python", shlex.quote(sys.executable), 1)

    def healthy() -> bool:
        return run("sh", "-c", check, settings=world.program.environment()).returncode == 0

    assert not healthy()  # no run has come yet
    run(sys.executable, "token_manager.py", settings=world.program.environment())
    assert healthy()


def test_the_probes_of_compose_and_kubernetes_are_answered_without_a_key(world: World) -> None:
    """A kubelet asks by the pod's address, so the host is given to it."""
    [_, _, flag, code] = COMPOSE["services"]["service"]["healthcheck"]["test"]
    [container] = pods()["Deployment"]["containers"]
    probes = {container[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    hosts = [header["value"] for name in container if name.endswith("Probe") for header in _headers(container[name])]
    with ServiceServer(world) as server:
        ended = run(sys.executable, flag, code.replace("http://127.0.0.1:8002", server.url))
        assert (ended.returncode, ended.stderr) == (0, "")
        answers = {path: server.call("GET", path, headers={"Host": hosts[0]}) for path in probes}
    assert set(hosts) == {"localhost"}
    assert {path: answer.status_code for path, answer in answers.items()} == {"/ready": 200, "/openapi.json": 200}


def _headers(probe: Mapping[str, Any]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = probe["httpGet"]["httpHeaders"]
    return found


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    if shutil.which("hadolint") is None:
        pytest.skip("there is no hadolint here")
    assert run("hadolint", DEPLOY / "Dockerfile").stdout == ""


# --- compose

COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())


@pytest.mark.parametrize("name", ["job", "service"])
def test_a_container_of_compose_can_write_nowhere_but_on_its_volumes(name: str) -> None:
    service = COMPOSE["services"][name]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["stop_grace_period"] == f"{STOP_SECONDS}s"
    assert service["restart"] == "unless-stopped"
    mounts = [volume.partition(":") for volume in service["volumes"]]
    assert [target for _, _, target in mounts] == ["/state", "/spare"]
    assert {source for source, _, _ in mounts} <= set(COMPOSE["volumes"])


def test_compose_gives_secrets_as_files_that_the_settings_look_for() -> None:
    assert {entry["file"] for entry in COMPOSE["secrets"].values()} == {
        f"secrets/{name}" for name in COMPOSE["secrets"]
    }
    for name in ("job", "service"):
        service = COMPOSE["services"][name]
        assert set(service["secrets"]) <= set(COMPOSE["secrets"]) & _NAMES
        assert set(service["environment"]) <= _NAMES
        assert not {key for key in service["environment"] if "KEY" in key or "SECRET" in key}
    assert "CREDENTIALS_DIRECTORY=/run/secrets" in DOCKERFILE
    assert COMPOSE["services"]["database"]["environment"]["POSTGRES_PASSWORD_FILE"] == "/run/secrets/POSTGRES_PASSWORD"


def test_compose_opens_a_port_on_this_machine_alone() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
    assert ports == ["127.0.0.1:8002:8002"]


def faults_by_the_compose_specification(file: Mapping[str, Any]) -> list[str]:
    """By its published schema, which check-jsonschema brings; https://github.com/compose-spec/compose-spec."""
    schema = get_builtin_schema("vendor.compose-spec")
    validator = validator_for(schema)(schema)
    return [f"{one.json_path}: {one.message}" for one in validator.iter_errors(file)]


def test_the_compose_file_fits_the_published_specification() -> None:
    assert faults_by_the_compose_specification(COMPOSE) == []


def test_a_word_that_compose_does_not_know_is_a_fault_by_the_specification() -> None:
    job = COMPOSE["services"]["job"]
    misspelt = COMPOSE | {"services": {"job": job | {"stop_graceperiod": "120s"}}}
    assert "stop_graceperiod" in "".join(faults_by_the_compose_specification(misspelt))


def test_docker_compose_accepts_the_file() -> None:
    if shutil.which("docker") is None or run("docker", "compose", "version").returncode != 0:
        pytest.skip("there is no `docker compose` here")
    ended = run("docker", "compose", "--file", DEPLOY / "compose.yaml", "config", "--quiet")
    assert ended.returncode == 0, ended.stderr


# --- Kubernetes


def documents() -> Iterator[dict[str, Any]]:
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        yield from yaml.safe_load_all(path.read_text())


def pods() -> dict[str, dict[str, Any]]:
    """What runs, by its kind."""
    found = {one["kind"]: one["spec"] for one in documents() if one["kind"] in ("CronJob", "Deployment")}
    return {
        kind: (spec.get("jobTemplate") or {"spec": spec})["spec"]["template"]["spec"] for kind, spec in found.items()
    }


@pytest.mark.parametrize("kind", ["CronJob", "Deployment"])
def test_a_pod_fits_the_restricted_standard_and_stops_no_refresh_in_the_middle(kind: str) -> None:
    pod = pods()[kind]
    [container] = pod["containers"]
    assert pod["terminationGracePeriodSeconds"] == STOP_SECONDS
    assert pod["automountServiceAccountToken"] is False
    own = pod["securityContext"]
    assert own["fsGroupChangePolicy"] == "OnRootMismatch", "each start would open the journal to the group"
    assert (own["runAsNonRoot"], own["runAsUser"], own["seccompProfile"]) == (True, 10001, {"type": "RuntimeDefault"})
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("kind", ["CronJob", "Deployment"])
def test_a_pod_has_secrets_as_files_and_state_on_claims_that_are_there(kind: str) -> None:
    pod = pods()[kind]
    [container] = pod["containers"]
    names = {entry["name"]: entry for entry in container["env"]}
    assert set(names) <= _NAMES
    assert all(set(entry) == {"name", "value"} for entry in names.values()), "a secret would be in the environment"
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert names["CREDENTIALS_DIRECTORY"]["value"] == mounts["secrets"]
    assert Path(names["STATE_DIR"]["value"]).parent == Path(mounts["state"])
    assert Path(names["STATE_DIR_SPARE"]["value"]).parent == Path(mounts["spare"])
    claims = {one["metadata"]["name"] for one in documents() if one["kind"] == "PersistentVolumeClaim"}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {volumes[name]["persistentVolumeClaim"]["claimName"] for name in ("state", "spare")} <= claims


def test_two_jobs_of_kubernetes_never_overlap() -> None:
    [job] = [one["spec"] for one in documents() if one["kind"] == "CronJob"]
    assert (job["concurrencyPolicy"], job["jobTemplate"]["spec"]["backoffLimit"]) == ("Forbid", 0)


def given_settings() -> Iterator[dict[str, str]]:
    """What each container has in its environment; `${NAME:-default}` is what compose makes of it."""
    for name in ("job", "service"):
        own = COMPOSE["services"][name]["environment"]
        yield {key: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value) for key, value in own.items()}
    for pod in pods().values():
        yield {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"]}


def test_the_settings_of_each_container_are_accepted_and_safe_to_listen_with(tmp_path: Path) -> None:
    for settings in given_settings():
        settings.pop("CREDENTIALS_DIRECTORY", None)
        known = load(settings | {"ENCRYPTION_KEY": crypto.generate_key()}, crypto.parse_key, tmp_path)
        assert known.warnings == ()
        assert known.refresh_interval == 900
        assert known.service.host == "127.0.0.1" or known.service.allow_plain_http


def test_secrets_are_read_as_kubernetes_mounts_them(tmp_path: Path) -> None:
    """Each is a link into a folder that is exchanged as a whole when the secret changes."""
    data = tmp_path / "..2026_11_28"
    data.mkdir()
    key = crypto.generate_key()
    (data / "ENCRYPTION_KEY").write_text(key + "\n")
    (tmp_path / "..data").symlink_to(data.name)
    (tmp_path / "ENCRYPTION_KEY").symlink_to("..data/ENCRYPTION_KEY")
    known = load({"CREDENTIALS_DIRECTORY": str(tmp_path)}, crypto.parse_key, tmp_path)
    assert known.encryption_key.reveal() == key


def test_the_state_folder_may_lie_in_a_volume_that_belongs_to_a_group(world: World, tmp_path: Path) -> None:
    """As Kubernetes mounts one with `fsGroup`; its own folder there is the program's alone."""
    tmp_path.chmod(0o2775)
    folders = {"STATE_DIR": str(tmp_path / "journal"), "STATE_DIR_SPARE": str(tmp_path / "answers")}
    world.program.settings |= folders
    assert world.program.run().code == 0
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o700


def faults_by_the_schema_of_kubernetes(document: Mapping[str, Any]) -> list[str]:
    """By the published one of its kind, which kubernetes-validate brings; a field that it does not name is a fault."""
    try:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{document['kind']} {list(error.path)}: {error.message}"]
    return []


def test_every_object_of_kubernetes_fits_the_published_schema_of_its_kind() -> None:
    objects = [one for one in documents() if one["kind"] != "Kustomization"]  # which no cluster gets
    assert len(objects) >= 8
    assert [fault for one in objects for fault in faults_by_the_schema_of_kubernetes(one)] == []


def test_a_field_that_kubernetes_does_not_know_is_a_fault_by_its_schema() -> None:
    [job] = [one for one in documents() if one["kind"] == "CronJob"]
    misspelt = job | {"spec": job["spec"] | {"concurencyPolicy": "Forbid"}}
    assert "concurencyPolicy" in "".join(faults_by_the_schema_of_kubernetes(misspelt))


def test_kubectl_puts_the_files_together(tmp_path: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl here")
    shutil.copytree(DEPLOY / "kubernetes", tmp_path / "kubernetes")
    (tmp_path / "kubernetes/secrets").mkdir()
    for name in ("ENCRYPTION_KEY", "DATABASE_URL"):
        (tmp_path / "kubernetes/secrets" / name).write_text("x")
    ended = run("kubectl", "kustomize", tmp_path / "kubernetes", folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    made: list[Mapping[str, Any]] = list(yaml.safe_load_all(ended.stdout))
    assert {"Secret", "CronJob", "Deployment", "Service"} <= {one["kind"] for one in made}
    assert {one["metadata"].get("namespace", "token-refresh") for one in made} == {"token-refresh"}
