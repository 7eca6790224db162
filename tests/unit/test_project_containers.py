"""The files for containers: their schemas take them, they start what there is, and only what trades is given keys."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import check_jsonschema
import kubernetes_validate
import pytest
import yaml  # type: ignore[import-untyped]
from jsonschema.validators import validator_for

from app.cli import app
from evenkeel.settings.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "deploy" / "compose" / "compose.yaml"
KUBERNETES = ROOT / "deploy" / "kubernetes" / "evenkeel.yaml"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
NGINX = ROOT / "deploy" / "nginx" / "evenkeel.conf"
SERVICES = {"server", "worker", "monitors", "watchdog", "sender", "desk"}
TRADING, SPEAKING = {"worker", "monitors"}, {"monitors", "sender"}
KEYS = {"hyperliquid.key", "solana.key", "asgard.key"}


def schema_of(name: str) -> dict[str, Any]:
    path = Path(check_jsonschema.__file__).parent / "builtin_schemas" / "vendor" / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def faults(name: str, content: Any) -> list[str]:
    schema = schema_of(name)
    return [
        f"{list(one.path)}: {one.message[:200]}" for one in validator_for(schema)(schema).iter_errors(content)
    ]


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(KUBERNETES.read_text()))


def test_compose_has_its_schema() -> None:
    assert not faults("compose-spec", yaml.safe_load(COMPOSE.read_text()))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: str(path.name))
def test_a_workflow_has_its_schema_and_runs_what_ci_runs(path: Path) -> None:
    content = yaml.safe_load(path.read_text().replace("\non:\n", '\n"on":\n'))
    assert not faults("github-workflows", content)
    ran = [step.get("run", "") for job in content["jobs"].values() for step in job["steps"]]
    assert ".ci/run" in ran and any(one.startswith("docker build") for one in ran)


@pytest.mark.parametrize("one", manifests(), ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_a_manifest_has_its_schema(one: dict[str, Any]) -> None:
    kubernetes_validate.validate(one, "1.37", strict=True)


def test_a_schema_finds_what_is_wrong() -> None:
    content = yaml.safe_load(COMPOSE.read_text())
    content["services"]["worker"]["comand"] = content["services"]["worker"].pop("command")
    assert faults("compose-spec", content)
    wrong = manifests()[-1]
    wrong["spec"]["replica"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


def commands() -> Iterator[tuple[str, list[str]]]:
    for name, service in yaml.safe_load(COMPOSE.read_text())["services"].items():
        yield f"compose {name}", service["command"]
    for one in manifests():
        for part in ("containers", "initContainers"):
            for container in one.get("spec", {}).get("template", {}).get("spec", {}).get(part, ()):
                if "args" in container:
                    yield f"kubernetes {container['name']}", container["args"]


@pytest.mark.parametrize(
    ("where", "words"), list(commands()), ids=lambda one: one if isinstance(one, str) else ""
)
def test_every_container_starts_something_that_there_is(where: str, words: list[str]) -> None:
    module, *rest = words
    if module == "app.cli":
        known = {one.name or (one.callback and one.callback.__name__) for one in app.registered_commands}
        assert rest[0] in known | {group.name for group in app.registered_groups}
    else:
        assert module in ("prefect", "flows.serve")


def test_every_service_runs_once_and_secrets_go_to_what_needs_them() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    pods = {one["metadata"]["name"]: one["spec"] for one in manifests() if one["kind"] == "Deployment"}
    assert set(pods) == SERVICES and set(services) - {"upgrade", "deploy"} == SERVICES
    for name in SERVICES:
        given = set(services[name].get("secrets", ()))
        assert given == (KEYS if name in TRADING else set()) | (
            {"slack-token"} if name in SPEAKING else set()
        )
        volumes = {
            one["secret"]["secretName"]
            for one in pods[name]["template"]["spec"]["volumes"]
            if "secret" in one
        }
        assert volumes == ({"keys"} if name in TRADING else set()) | (
            {"channels"} if name in SPEAKING else set()
        )
        assert pods[name]["replicas"] == 1 and pods[name]["strategy"] == {"type": "Recreate"}


def test_variables_name_settings_and_none_holds_a_secret() -> None:
    text = COMPOSE.read_text() + KUBERNETES.read_text()
    for section, field in set(re.findall(r"EVENKEEL_([A-Z]+)__([A-Z_]+)", text)):
        assert field.lower() in type(getattr(Settings(), section.lower())).model_fields, (section, field)
    assert not re.search(r"(PASSWORD|_KEY|TOKEN|SECRET): *\S", text)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="no nginx here")
def test_nginx_takes_its_file(tmp_path: Path) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=x"),
            *("-keyout", str(tmp_path / "server.key"), "-out", str(tmp_path / "server.crt")),
        ],
        check=True,
        capture_output=True,
    )
    shutil.copy(tmp_path / "server.crt", tmp_path / "people.crt")
    text = (
        NGINX.read_text()
        .replace("/etc/evenkeel/tls/", f"{tmp_path}/")
        .replace("listen 443", "listen 127.0.0.1:1443")
    )
    whole = tmp_path / "nginx.conf"
    whole.write_text(
        f"pid {tmp_path}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{text}\n}}\n"
    )
    done = subprocess.run(["nginx", "-t", "-c", str(whole)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nobody_is_let_in_without_a_certificate() -> None:
    text = NGINX.read_text()
    assert re.search(r"ssl_verify_client\s+on;", text) and "proxy_pass http://127.0.0.1:4200;" in text
