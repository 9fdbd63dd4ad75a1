"""How what is configured comes to be served: a deployment is a copy of it."""

from __future__ import annotations

import msgspec

from lambent.frontdoor.answers import new_id, now_text
from lambent.frontdoor.http_apis.model import Api, Configuration, Members


def deploy(api: Api) -> None:
    """Stages that deploy by themselves serve what is configured now."""
    stages = [stage for stage in api.stages.values() if stage.get("AutoDeploy")]
    if stages:
        deployment = add_deployment(api, description=None, automatic=True)
        for stage in stages:
            stage["DeploymentId"] = deployment["DeploymentId"]
            stage["LastDeploymentStatusMessage"] = (
                f"Successfully deployed stage with deployment ID '{deployment['DeploymentId']}'"
            )
    forget_unused(api)


def add_deployment(api: Api, *, description: str | None, automatic: bool) -> Members:
    id_ = new_id(6)
    deployment: Members = {
        "AutoDeployed": automatic,
        "CreatedDate": now_text(),
        "DeploymentId": id_,
        "DeploymentStatus": "DEPLOYED",
        "Description": description or ("Automatic deployment triggered by changes to the Api" if automatic else ""),
    }
    api.deployments[id_] = deployment
    # A copy: what is configured later is not served by this deployment.
    api.snapshots[id_] = msgspec.json.decode(msgspec.json.encode(api.configuration), type=Configuration)
    return deployment


def forget_unused(api: Api) -> None:
    """Automatic deployments are kept as long as a stage serves them."""
    used = {stage.get("DeploymentId") for stage in api.stages.values()}
    for id_, deployment in list(api.deployments.items()):
        if deployment["AutoDeployed"] and id_ not in used:
            del api.deployments[id_]
            api.snapshots.pop(id_, None)
