"""A video is uploaded, a small version of it follows, and who waits for it is told: `python examples/transcoding/run.py`."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import imageio_ffmpeg

sys.path.insert(0, str(Path(__file__).parent.parent))

from stage import EXAMPLES, Stage, open_stage, say, wait_for  # noqa: E402

BUCKET = "videos"


def main() -> dict[str, Any]:
    """The notification of the result, and the sizes of both videos."""
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    with open_stage() as stage:
        s3, functions = stage.client("s3"), stage.client("lambda")
        say("1. A bucket; ffmpeg as a layer, which is too large for a request and so goes by way of the bucket")
        s3.create_bucket(Bucket=BUCKET)
        layer = publish_layer(stage, ffmpeg)
        function = stage.deploy(
            EXAMPLES / "transcoding" / "transcode", "--timeout", "60", "--memory", "1024", "--layer", layer
        )
        say("2. What is uploaded below uploads/ runs the function, what appears below small/ is told to a queue")
        queue = wire_up(stage, function)
        say("3. Upload a video")
        source = stage.folder / "holiday.mp4"
        pattern = ["-f", "lavfi", "-i", "testsrc=duration=2:size=640x360:rate=10", "-pix_fmt", "yuv420p", str(source)]
        subprocess.run([ffmpeg, "-y", "-loglevel", "error", *pattern], check=True)
        s3.upload_file(str(source), BUCKET, "uploads/holiday.mp4")
        record = wait_for(lambda: take(stage, queue), "the small video")
        small = stage.folder / "small.mp4"
        s3.download_file(BUCKET, record["s3"]["object"]["key"], str(small))
        sizes = [read_size(ffmpeg, path) for path in (source, small)]
        print(f"{record['eventName']} {record['s3']['object']['key']}: {sizes[0]} became {sizes[1]}", flush=True)
        assert functions.get_function(FunctionName="transcode")["Configuration"]["Layers"]
        head = s3.head_object(Bucket=BUCKET, Key=record["s3"]["object"]["key"])
        return {"record": record, "sizes": sizes, "made_of": head["Metadata"]["made-of"]}


def publish_layer(stage: Stage, ffmpeg: str) -> str:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        entry = zipfile.ZipInfo("bin/ffmpeg")
        entry.external_attr = 0o755 << 16
        archive.writestr(entry, Path(ffmpeg).read_bytes(), zipfile.ZIP_DEFLATED)
    stage.client("s3").put_object(Bucket=BUCKET, Key="layers/ffmpeg.zip", Body=packed.getvalue())
    content = {"S3Bucket": BUCKET, "S3Key": "layers/ffmpeg.zip"}
    return str(stage.client("lambda").publish_layer_version(LayerName="ffmpeg", Content=content)["LayerVersionArn"])


def wire_up(stage: Stage, function: str) -> str:
    queues = stage.client("sqs")
    queue: str = queues.create_queue(QueueName="made")["QueueUrl"]
    arn = queues.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

    def below(prefix: str) -> dict[str, Any]:
        return {"Key": {"FilterRules": [{"Name": "prefix", "Value": prefix}, {"Name": "suffix", "Value": ".mp4"}]}}

    uploaded = {"LambdaFunctionArn": function, "Events": ["s3:ObjectCreated:*"], "Filter": below("uploads/")}
    made = {"QueueArn": arn, "Events": ["s3:ObjectCreated:*"], "Filter": below("small/")}
    stage.client("s3").put_bucket_notification_configuration(
        Bucket=BUCKET,
        NotificationConfiguration={"LambdaFunctionConfigurations": [uploaded], "QueueConfigurations": [made]},
    )
    return queue


def take(stage: Stage, queue: str) -> Any:
    """The first record of an object; the test event that comes when a bucket is wired up has none."""
    found = stage.client("sqs").receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages", [])
    return next((json.loads(message["Body"])["Records"][0] for message in found if "Records" in message["Body"]), None)


def read_size(ffmpeg: str, path: Path) -> str:
    shown = subprocess.run([ffmpeg, "-i", str(path)], capture_output=True, text=True, check=False).stderr
    found = re.search(r"Video:.* (\d+x\d+)", shown)
    assert found is not None, shown
    return found[1]


if __name__ == "__main__":
    main()
