"""What the server says of a request that cannot be followed."""


def refusal(client, path: str, asked: dict, status: int | None) -> str:
    """The one line of a refused request.

    Args:
        status: of the answer; None: the request is taken, and the model refuses it when the job runs.
    """
    answer = client.post(path, json=asked)
    if status is not None:
        assert answer.status_code == status, answer.text
        text = answer.json()["detail"]
    else:
        assert answer.status_code == 202, answer.text
        client.get(f"/api/jobs/{answer.json()['id']}/events")
        job = client.get(f"/api/jobs/{answer.json()['id']}").json()
        assert job["state"] == "failed"
        text = job["error"]
    assert "\n" not in text
    return text
