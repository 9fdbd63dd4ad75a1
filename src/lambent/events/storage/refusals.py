"""What S3 says of what cannot be (S3 API reference, "Error responses")."""

from __future__ import annotations

from lambent.model.errors import CallerError


def no_bucket(name: str) -> CallerError:
    return CallerError("NoSuchBucket", "The specified bucket does not exist", status=404, members={"BucketName": name})


def no_key(key: str) -> CallerError:
    return CallerError("NoSuchKey", "The specified key does not exist.", status=404, members={"Key": key})


def no_upload(upload_id: str) -> CallerError:
    return CallerError(
        "NoSuchUpload",
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or "
        "completed.",
        status=404,
        members={"UploadId": upload_id},
    )


def access_denied() -> CallerError:
    return CallerError("AccessDenied", "Access Denied", status=403)


def precondition_failed(condition: str) -> CallerError:
    return CallerError(
        "PreconditionFailed",
        "At least one of the pre-conditions you specified did not hold",
        status=412,
        members={"Condition": condition},
    )


def invalid(message: str) -> CallerError:
    return CallerError("InvalidArgument", message)


def not_implemented(message: str) -> CallerError:
    return CallerError("NotImplemented", f"{message} is not implemented by Lambent.", status=501)
