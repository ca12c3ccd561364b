"""S3 of `outcrop serve` under real clients: boto3 and the aws command line from PyPI, unmodified.

usage: s3.py BINARY

Buckets, objects, ranges, listings in pages, copies, an upload in parts, presigned URLs, `aws s3 cp`, `sync`, `ls` and
`rm`, and that the built-in bucket is read only. Prints what was checked; any difference is an error."""

import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from service import Service

MIB = 1 << 20


def fails(code, call, **members):
    try:
        call(**members)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error
        return
    raise AssertionError(f"{members} was accepted")


def keys(listed):
    return [item["Key"] for item in listed.get("Contents", [])]


def objects(s3, service):
    s3.create_bucket(Bucket="my-bucket")
    s3.head_bucket(Bucket="my-bucket")
    for key in ("data/train.jsonl", "data/a b+c=ä%2F.txt", "data.csv"):
        s3.put_object(Bucket="my-bucket", Key=key, Body=key.encode())
        got = s3.get_object(Bucket="my-bucket", Key=key)
        assert got["Body"].read().decode() == key, key
        assert (service.home / "s3/my-bucket" / key).read_text() == key, key
    head = s3.head_object(Bucket="my-bucket", Key="data.csv")
    assert (head["ContentLength"], head["ContentType"]) == (8, "text/csv"), head
    part = s3.get_object(Bucket="my-bucket", Key="data.csv", Range="bytes=5-")
    assert (part["Body"].read(), part["ContentRange"]) == (b"csv", "bytes 5-7/8"), part
    everything = ["data.csv", "data/a b+c=ä%2F.txt", "data/train.jsonl"]
    assert keys(s3.list_objects_v2(Bucket="my-bucket")) == everything
    assert keys(s3.list_objects(Bucket="my-bucket")) == everything
    top = s3.list_objects_v2(Bucket="my-bucket", Delimiter="/")
    assert keys(top) == ["data.csv"] and top["CommonPrefixes"] == [{"Prefix": "data/"}], top
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="my-bucket", PaginationConfig={"PageSize": 1})
    assert [key for page in pages for key in keys(page)] == everything
    s3.copy_object(Bucket="my-bucket", Key="copy.txt", CopySource={"Bucket": "my-bucket", "Key": everything[1]})
    assert s3.get_object(Bucket="my-bucket", Key="copy.txt")["Body"].read().decode() == everything[1]
    fails("NoSuchKey", s3.get_object, Bucket="my-bucket", Key="none")
    fails("NoSuchBucket", s3.get_object, Bucket="no-bucket", Key="none")
    fails("BucketNotEmpty", s3.delete_bucket, Bucket="my-bucket")
    for key in ("../x", "a/../../x", "/x", "a//b"):
        fails("InvalidArgument", s3.put_object, Bucket="my-bucket", Key=key, Body=b"x")
    print("objects, ranges, listings, copies: boto3 agrees with the files")


def uploads(s3, service, folder):
    content = os.urandom(13 * MIB + 7)
    source, back = folder / "large", folder / "back"
    source.write_bytes(content)
    config = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=5 * MIB)
    s3.upload_file(str(source), "my-bucket", "large.bin", Config=config)
    s3.copy({"Bucket": "my-bucket", "Key": "large.bin"}, "my-bucket", "large-copy.bin", Config=config)
    s3.download_file("my-bucket", "large-copy.bin", str(back), Config=config)
    assert back.read_bytes() == content
    upload = s3.create_multipart_upload(Bucket="my-bucket", Key="never")["UploadId"]
    s3.upload_part(Bucket="my-bucket", Key="never", UploadId=upload, PartNumber=1, Body=b"x")
    assert len(s3.list_parts(Bucket="my-bucket", Key="never", UploadId=upload)["Parts"]) == 1
    s3.abort_multipart_upload(Bucket="my-bucket", Key="never", UploadId=upload)
    fails("NoSuchUpload", s3.list_parts, Bucket="my-bucket", Key="never", UploadId=upload)
    assert not list((service.home / "s3/.uploads").iterdir()), "parts are left"
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "my-bucket", "Key": "data.csv"})
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"data.csv"
    print("an upload of 13 MiB in parts, its copy in parts, a presigned URL")


def command_line(service, folder):
    def aws(*arguments):
        command = [sys.executable, "-m", "awscli", "s3", *arguments]
        done = subprocess.run(command, env=service.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    tree = folder / "tree"
    (tree / "below").mkdir(parents=True)
    (tree / "a.txt").write_text("a")
    (tree / "below/b.txt").write_text("b")
    (tree / "large.bin").write_bytes(os.urandom(9 * MIB))
    aws("mb", "s3://cli-bucket")
    aws("sync", str(tree), "s3://cli-bucket/tree")
    assert aws("sync", str(tree), "s3://cli-bucket/tree") == "", "nothing is left to do"
    assert "PRE tree/" in aws("ls", "s3://cli-bucket")
    aws("cp", "s3://cli-bucket/tree", str(folder / "again"), "--recursive")
    for name in ("a.txt", "below/b.txt", "large.bin"):
        assert (folder / "again" / name).read_bytes() == (tree / name).read_bytes(), name
    aws("mv", "s3://cli-bucket/tree/a.txt", "s3://cli-bucket/moved.txt")
    assert aws("cp", "s3://cli-bucket/moved.txt", "-") == "a"
    aws("rm", "s3://cli-bucket", "--recursive")
    aws("rb", "s3://cli-bucket")
    assert "cli-bucket" not in aws("ls")
    print("aws s3 mb, sync, ls, cp, mv, rm, rb")


def examples(s3):
    listed = keys(s3.list_objects_v2(Bucket="outcrop-examples", Prefix="sentiment/"))
    assert "sentiment/train.jsonl" in listed, listed
    assert s3.get_object(Bucket="outcrop-examples", Key="sentiment/train.jsonl")["ContentLength"] > 0
    fails("AccessDenied", s3.put_object, Bucket="outcrop-examples", Key="x", Body=b"x")
    fails("AccessDenied", s3.delete_object, Bucket="outcrop-examples", Key="sentiment/train.jsonl")
    print("outcrop-examples can be read and not changed")


def main():
    with tempfile.TemporaryDirectory() as name, Service(sys.argv[1], Path(name)) as service:
        s3 = service.client("s3")
        objects(s3, service)
        uploads(s3, service, Path(name))
        command_line(service, Path(name))
        examples(s3)
    print("S3 agrees with boto3 and the aws command line")


if __name__ == "__main__":
    main()
