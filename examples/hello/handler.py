"""The smallest function: greets, and logs that it did."""

import os


def handler(event, context):
    name = event.get("name", "world")
    print(f"greeting {name} from version {context.function_version}")
    return {"message": f"Hello, {name}!", "runtime": os.environ["AWS_EXECUTION_ENV"]}
