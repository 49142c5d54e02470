"""Every manifest of deploy/ against its consumer's own schema, and against the program it configures.

Kubernetes objects: the API's OpenAPI schemas (kubernetes-validate). KEDA: models made from its CRDs. Strimzi: its own
Java classes. compose.yaml: the compose specification's schema. The systemd unit: systemd-analyze. What no schema knows,
namely that variables and topics are those of onnxferry, is checked against `--check-config`.
"""

import json
import os
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import certifi
import jsonschema
import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.keda import v1alpha1 as keda

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
TOOLS = ROOT / "tests" / "tools"
KUBERNETES_VERSION = "1.34"
BINARY = Path(os.environ.get("ONNXFERRY_BINARY", ROOT / "build" / "dev" / "worker" / "onnxferry"))


def documents(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def unknown_keys(given, understood, path=""):
    """Keys of `given` that a model has dropped on reading."""
    if isinstance(given, dict):
        for key, value in given.items():
            if not isinstance(understood, dict) or key not in understood:
                yield f"{path}.{key}"
            else:
                yield from unknown_keys(value, understood[key], f"{path}.{key}")
    elif isinstance(given, list) and isinstance(understood, list):
        for index, (item, other) in enumerate(zip(given, understood)):
            yield from unknown_keys(item, other, f"{path}[{index}]")


def read_keda(document):
    model = getattr(keda, document["kind"]).model_validate(document)
    return list(unknown_keys(document, model.model_dump(by_alias=True, exclude_unset=True, mode="json")))


def check_strimzi(*files):
    jars = subprocess.run([TOOLS / "strimzi-jars.sh"], check=True, text=True, capture_output=True).stdout.strip()
    return subprocess.run(["java", "-cp", f"{jars}/check:{jars}/*", "CheckStrimzi", *map(str, files)], text=True, capture_output=True)


@pytest.fixture(scope="session")
def settings():
    """Names of the variables that the program reads and their values: {ONNXFERRY_GROUP: "onnxferry", ...}."""
    result = subprocess.run([BINARY, "serve", "--check-config"], text=True, capture_output=True, env={"PATH": os.environ["PATH"], "ONNXFERRY_BROKERS": "kafka:9092"})
    assert result.returncode == 0, result.stderr
    lines = re.findall(r'^([a-z0-9-]+) = "(.*)"$', result.stdout, re.MULTILINE)
    return {"ONNXFERRY_" + name.upper().replace("-", "_"): value for name, value in lines}


def check_environment(environment):
    """The program itself accepts exactly these variables."""
    return subprocess.run([BINARY, "serve", "--check-config"], text=True, capture_output=True, env={"PATH": os.environ["PATH"], **{key: str(value) for key, value in environment.items()}})


# --- each against its schema


@pytest.mark.parametrize("document", documents(DEPLOY / "kubernetes" / "worker.yaml"), ids=lambda document: document["kind"])
def test_worker_objects_fit_the_kubernetes_api(document):
    kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)


def test_the_kubernetes_check_finds_a_wrong_key():
    deployment = next(document for document in documents(DEPLOY / "kubernetes" / "worker.yaml") if document["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, KUBERNETES_VERSION, strict=True)


@pytest.mark.parametrize("document", documents(DEPLOY / "kubernetes" / "scaledobject.yaml"), ids=lambda document: document["kind"])
def test_scaling_objects_fit_keda(document):
    assert read_keda(document) == []


def test_the_keda_check_finds_a_wrong_key():
    scaled = documents(DEPLOY / "kubernetes" / "scaledobject.yaml")[0]
    scaled["spec"]["triggers"][0]["autenticationRef"] = {"name": "x"}
    assert read_keda(scaled) == [".spec.triggers[0].autenticationRef"]


def test_topics_and_user_fit_strimzi(tmp_path):
    path = DEPLOY / "kubernetes" / "kafka.yaml"
    result = check_strimzi(path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.strip() == f"{len(documents(path))} resources, 0 problems"
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(path.read_text().replace("partitions: 12", "partitons: 12"))
    assert "unknown key partitons" in check_strimzi(wrong).stdout


def test_compose_file_fits_the_compose_specification():
    schema = json.loads(resources.files("compose").joinpath("config/compose_spec.json").read_text())
    jsonschema.Draft7Validator(schema).validate(documents(DEPLOY / "compose.yaml")[0])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_unit_is_understood(tmp_path):
    unit = tmp_path / "onnxferry.service"
    text = (DEPLOY / "onnxferry.service").read_text()
    # verify wants programs that exist; systemd takes no path with odd characters.
    unit.write_text(text.replace("/usr/local/bin/onnxferry", "/bin/true"))
    result = subprocess.run(["systemd-analyze", "verify", unit], text=True, capture_output=True)
    ours = [line for line in result.stderr.splitlines() if "onnxferry" in line]
    assert ours == [] and result.returncode == 0


# --- each against the program


def test_the_config_map_is_a_configuration_of_the_program():
    (config,) = [document["data"] for document in documents(DEPLOY / "kubernetes" / "worker.yaml") if document["kind"] == "ConfigMap"]
    # The pod's authorities are mounted there; here any will do.
    config["ONNXFERRY_KAFKA_SSL_CA_LOCATION"] = certifi.where()
    result = check_environment({**config, "ONNXFERRY_KAFKA_SASL_PASSWORD": "secret"})
    assert result.returncode == 0, result.stderr
    assert '"secret"' not in result.stdout


def test_every_variable_is_one_that_the_program_reads(settings):
    """A misspelt variable would be ignored silently."""
    used = set()
    for path in (DEPLOY / "kubernetes" / "worker.yaml", DEPLOY / "compose.yaml", DEPLOY / "worker.env.example", DEPLOY / "onnxferry.service"):
        used |= set(re.findall(r"\bONNXFERRY_[A-Z0-9_]+", path.read_text()))
    own = {name for name in used if not name.startswith("ONNXFERRY_KAFKA_")} - {"ONNXFERRY_SOME_NAME"}
    assert own <= set(settings), own - set(settings)
    assert len(own) > 20


def test_the_grace_periods_leave_room_for_the_drain():
    objects = {document["kind"]: document for document in documents(DEPLOY / "kubernetes" / "worker.yaml")}
    drain = int(objects["ConfigMap"]["data"]["ONNXFERRY_DRAIN_GRACE_MS"]) / 1000
    assert drain < objects["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]


def test_topics_of_all_files_are_the_programs(settings):
    requests = settings["ONNXFERRY_REQUEST_TOPIC"]
    created = {document["metadata"]["name"] for document in documents(DEPLOY / "kubernetes" / "kafka.yaml") if document["kind"] == "KafkaTopic"}
    assert {requests, settings["ONNXFERRY_REPLY_TOPIC"], requests + ".dlq"} <= created
    scaled = documents(DEPLOY / "kubernetes" / "scaledobject.yaml")[0]["spec"]
    assert {trigger["metadata"]["topic"] for trigger in scaled["triggers"]} == {requests, requests + ".retry"} <= created
    assert {trigger["metadata"]["consumerGroup"] for trigger in scaled["triggers"]} == {settings["ONNXFERRY_GROUP"]}
    partitions = {document["metadata"]["name"]: document["spec"]["partitions"] for document in documents(DEPLOY / "kubernetes" / "kafka.yaml") if document["kind"] == "KafkaTopic"}
    assert scaled["maxReplicaCount"] <= partitions[requests]
