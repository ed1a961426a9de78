"""The manifests: valid for Kubernetes, and in step with each other, the image and the program."""

import copy
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from api import create_app
from api.settings import PREFIX, ServiceSettings
from charrnn.cli_versions import LOCKED, STATUSES, WRONG
from tests.api import tiny
from tests.api.server import ROOT
from tests.deploy.test_image import FINAL, HOME, environment, of

FOLDER = ROOT / "deploy" / "kubernetes"
FILES = sorted(FOLDER.glob("*.yaml"))
OLDEST = "1.29"


def read(path: Path) -> dict[str, Any]:
    (document,) = yaml.safe_load_all(path.read_text())
    return document


DOCUMENTS = {path.stem: read(path) for path in FILES}
MANIFESTS = {name: each for name, each in DOCUMENTS.items() if name != "kustomization"}
SERVING = MANIFESTS["deployment"]["spec"]["template"]["spec"]
RETRAINING = MANIFESTS["cronjob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
(SERVICE_CONTAINER,) = SERVING["containers"]
(RETRAIN_CONTAINER,) = RETRAINING["containers"]


def variables(container):
    return {each["name"]: each["value"] for each in container.get("env", ())}


def seconds_of(setting):
    text = (ROOT / "gunicorn.conf.py").read_text()
    return int(re.search(rf"(?m)^{setting} = (\d+)", text)[1])


# --- Valid ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_is_valid_for_kubernetes(name, version):
    kubernetes_validate.validate(MANIFESTS[name], version, strict=True)


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_misspelt_field_would_be_noticed(name):
    wrong = copy.deepcopy(MANIFESTS[name])
    wrong["spec"]["replica"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, OLDEST, strict=True)


def test_kustomization_has_every_manifest_and_its_image():
    document = DOCUMENTS["kustomization"]
    assert document["resources"] == [f"{name}.yaml" for name in sorted(MANIFESTS)]
    (image,) = document["images"]
    containers = [*SERVING["containers"], *SERVING["initContainers"], *RETRAINING["containers"]]
    assert {each["image"] for each in containers} == {f"{image['name']}:{image['newTag']}"}


# --- In step --------------------------------------------------------------------------------------


def test_service_autoscaler_and_budget_are_about_the_deployment():
    deployment = MANIFESTS["deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert MANIFESTS["service"]["spec"]["selector"] == labels
    assert MANIFESTS["disruption"]["spec"]["selector"]["matchLabels"] == labels
    target = MANIFESTS["autoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    assert "replicas" not in deployment["spec"]  # the autoscaler's business
    assert MANIFESTS["autoscaler"]["spec"]["minReplicas"] > 1
    (port,) = SERVICE_CONTAINER["ports"]
    assert MANIFESTS["service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    assert str(port["containerPort"]) == of(FINAL, "EXPOSE")[0].rest


def test_the_autoscaler_counts_cores_and_a_pod_has_one_worker():
    (metric,) = MANIFESTS["autoscaler"]["spec"]["metrics"]
    assert metric["resource"]["name"] == "cpu"
    assert SERVICE_CONTAINER["resources"]["requests"]["cpu"] == "1"
    assert variables(SERVICE_CONTAINER)["CHARRNN_WORKERS"] == "1"


def test_the_settings_are_known_and_no_service_brings_others():
    given = environment() | variables(SERVICE_CONTAINER)
    ServiceSettings.from_environment(given)
    assert MANIFESTS["service"]["metadata"]["name"].upper() + "_" == PREFIX
    assert SERVING["enableServiceLinks"] is False
    assert RETRAINING["enableServiceLinks"] is False


def test_the_probes_ask_for_routes_that_are_there(tmp_path):
    app = create_app(ServiceSettings(), tiny.make(tmp_path).store)
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = SERVICE_CONTAINER[name]["httpGet"]
        assert app.test_client().get(asked["path"]).status_code == 200
        assert asked["port"] == SERVICE_CONTAINER["ports"][0]["name"]
        assert ServiceSettings(api_keys="k" * 40).opens(asked["path"])


def test_a_pod_has_the_time_to_finish_what_was_begun():
    command = SERVICE_CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    wait = int(command[1])
    assert command == ["sleep", str(wait)]
    assert SERVING["terminationGracePeriodSeconds"] > wait + seconds_of("graceful_timeout")


@pytest.mark.parametrize("pod", [SERVING, RETRAINING], ids=["service", "retraining"])
def test_nothing_runs_as_root_or_writes_outside_its_volumes(pod):
    user, group = of(FINAL, "USER")[0].rest.split(":")
    who = pod["securityContext"]
    assert who["runAsNonRoot"]
    assert (str(who["runAsUser"]), str(who["fsGroup"])) == (user, group)
    assert pod["automountServiceAccountToken"] is False
    mounted = {each["name"] for each in pod["volumes"]}
    for container in [*pod["containers"], *pod.get("initContainers", ())]:
        confined = container["securityContext"]
        assert confined["readOnlyRootFilesystem"]
        assert not confined["allowPrivilegeEscalation"]
        assert confined["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
        places = {each["mountPath"]: each for each in container["volumeMounts"]}
        assert {"/tmp", of(FINAL, "VOLUME")[0].rest} <= places.keys()
        assert {each["name"] for each in places.values()} <= mounted


def test_weights_are_on_one_volume_that_the_service_only_reads():
    claim = MANIFESTS["volume"]["metadata"]["name"]
    for pod in (SERVING, RETRAINING):
        (volume,) = [each for each in pod["volumes"] if "persistentVolumeClaim" in each]
        assert volume["persistentVolumeClaim"]["claimName"] == claim
    assert MANIFESTS["volume"]["spec"]["accessModes"] == ["ReadWriteMany"]

    def read_only(container):
        (mount,) = [each for each in container["volumeMounts"] if each["name"] == "weights"]
        return mount.get("readOnly", False)

    assert read_only(SERVICE_CONTAINER)
    assert not read_only(SERVING["initContainers"][0])
    assert not read_only(RETRAIN_CONTAINER)
    assert variables(RETRAIN_CONTAINER)["CHARRNN_WEIGHTS"] == environment()["CHARRNN_WEIGHTS"]


def test_the_job_knows_which_statuses_are_no_failures():
    script = RETRAIN_CONTAINER["args"][0]
    fine = re.search(r"case \$status in ([\d|]+)\) exit 0", script)
    assert set(map(int, fine[1].split("|"))) == {*STATUSES.values(), LOCKED} - {0}
    (rule,) = MANIFESTS["cronjob"]["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["values"] == [WRONG]
    assert RETRAINING["restartPolicy"] == "Never"  # podFailurePolicy asks for it
    assert RETRAIN_CONTAINER["workingDir"] == HOME
