"""Makes a small version of each video that is uploaded. ffmpeg lies in a layer, in /opt/bin."""

import os
import subprocess
from urllib.parse import unquote_plus

import boto3

s3 = boto3.client("s3")


def handler(event, context):
    made = []
    for record in event["Records"]:
        bucket, key = record["s3"]["bucket"]["name"], unquote_plus(record["s3"]["object"]["key"])
        source, small = "/tmp/source", "/tmp/small.mp4"
        s3.download_file(bucket, key, source)
        seconds = context.get_remaining_time_in_millis() / 1000 - 2
        command = ["ffmpeg", "-y", "-loglevel", "error", "-threads", "1", "-i", source, "-vf", "scale=160:-2", small]
        subprocess.run(command, check=True, timeout=seconds)
        target = f"small/{os.path.basename(key)}"
        s3.upload_file(small, bucket, target, ExtraArgs={"ContentType": "video/mp4", "Metadata": {"made-of": key}})
        made.append(target)
    return made
