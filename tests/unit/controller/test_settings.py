"""kopf is set up to watch, and to do nothing that costs."""

import kopf

from vicuna_operator.controller.settings import configure


def test_no_object_is_copied_to_find_out_what_changed() -> None:
    settings = kopf.OperatorSettings()
    configure(settings)
    storage = settings.persistence.diffbase_storage
    body = kopf.Body({"metadata": {"name": "m"}, "spec": {"a": 1}})
    patch = kopf.Patch()
    storage.store(body=body, patch=patch, essence=storage.build(body=body))
    assert not storage.build(body=body)
    assert storage.fetch(body=body) is None
    assert not patch
