from __future__ import annotations

import pytest

from lambent.awsapi.context import RequestContext, check_scope
from lambent.model.errors import CallerError


def context(service: str) -> RequestContext:
    return RequestContext(account="1", region="r", access_key="k", request_id="r", service=service)


@pytest.mark.parametrize("service", ["lambda", ""])
def test_what_is_signed_for_the_service_passes_and_so_does_what_nobody_looked_at(service: str) -> None:
    assert check_scope(context(service)).service == service


def test_a_signature_that_was_made_for_a_bucket_invokes_no_function() -> None:
    with pytest.raises(CallerError) as caught:
        check_scope(context("s3"))
    assert (caught.value.code, caught.value.status) == ("InvalidSignatureException", 403)
