// One invocation: build the context, call the handler as it wants to be called, give its answer as JSON text.
import { ResponseStream, isStreaming } from "./streaming.mjs";

const CALLBACKS = Number(process.versions.node.split(".")[0]) < 24;

// What happens when nothing is left that could wake this process up, instead of its end. One at a time.
let onEmptyLoop;

process.on("beforeExit", () => {
  const then = onEmptyLoop;
  onEmptyLoop = undefined;
  // Something to do, or the process would end.
  if (then) setImmediate(then);
});

export async function invoke(handler, call) {
  try {
    const event = JSON.parse(call.event);
    const result = await run(handler, event, call);
    return { body: encode(result) };
  } catch (error) {
    return { error: error ?? new Error("the handler threw nothing") };
  } finally {
    onEmptyLoop = undefined;
  }
}

// `open` begins the upload of an answer in pieces. The outcome has that stream, and an error where it failed.
export async function invokeStreaming(handler, call, open) {
  const stream = new ResponseStream(handler, open);
  try {
    await runStreaming(handler, JSON.parse(call.event), call, stream);
    return { stream };
  } catch (error) {
    return { stream, error: error ?? new Error("the handler threw nothing") };
  } finally {
    onEmptyLoop = undefined;
  }
}

export { isStreaming };

function encode(result) {
  if (result === undefined) return "null";
  try {
    return JSON.stringify(result) ?? "null";
  } catch (error) {
    throw new Error("Unable to stringify response body", { cause: error });
  }
}

function run(handler, event, call) {
  return new Promise((resolve, reject) => {
    const context = makeContext(call);
    // A handler that can do nothing more is done: an async one has lost its promise, another has returned nothing.
    onEmptyLoop = isAsync(handler) || !CALLBACKS ? () => reject(lostPromise()) : () => resolve();
    if (!CALLBACKS) {
      if (handler.length >= 3) {
        throw Object.assign(
          new Error("ERROR: AWS Lambda does not support callback-based function handlers when using Node.js 24 and later."),
          { name: "Runtime.CallbackHandlerDeprecated" },
        );
      }
      Promise.resolve(handler(event, context)).then(resolve, reject);
      return;
    }
    let finished = false;
    const finish = (error, result, waits) => {
      if (finished) return;
      finished = true;
      if (error !== undefined && error !== null) reject(error);
      else if (waits) onEmptyLoop = () => resolve(result);
      else resolve(result);
    };
    context.done = (error, result) => finish(error, result, false);
    context.succeed = (result) => finish(null, result, false);
    context.fail = (error) => finish(error ?? "handled", undefined, false);
    const callback = (error, result) => finish(error, result, context.callbackWaitsForEmptyEventLoop);
    // What a handler returns that is no promise does not count.
    const returned = handler(event, context, callback);
    if (typeof returned?.then === "function") returned.then(context.succeed, context.fail);
  });
}

function isAsync(handler) {
  return handler.constructor?.name === "AsyncFunction";
}

function lostPromise() {
  const text =
    "The Lambda runtime client detected an unexpected Node.js exit code. This is most commonly caused by a Promise that " +
    "was never settled. For more information, see https://nodejs.org/docs/latest/api/process.html#exit-codes";
  return Object.assign(new Error(text), { name: "Runtime.NodeJsExit" });
}

// Run a handler that writes to a stream; done when both have ended.
function runStreaming(handler, event, call, stream) {
  return new Promise((resolve, reject) => {
    onEmptyLoop = () => reject(lostPromise());
    const written = new Promise((ended, failed) => {
      stream.once("finish", ended);
      stream.once("error", failed);
    });
    written.catch(() => {});
    Promise.resolve(handler(event, stream, makeContext(call))).then(() => written).then(resolve, reject);
    written.catch(reject);
  });
}

function makeContext(call) {
  const environment = process.env;
  return {
    callbackWaitsForEmptyEventLoop: true,
    functionVersion: environment.AWS_LAMBDA_FUNCTION_VERSION,
    functionName: environment.AWS_LAMBDA_FUNCTION_NAME,
    memoryLimitInMB: environment.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: environment.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: environment.AWS_LAMBDA_LOG_STREAM_NAME,
    clientContext: call.clientContext ? JSON.parse(call.clientContext) : undefined,
    identity: call.identity ? JSON.parse(call.identity) : undefined,
    invokedFunctionArn: call.invokedFunctionArn,
    awsRequestId: call.requestId,
    getRemainingTimeInMillis: () => Math.max(0, call.deadlineMs - Date.now()),
  };
}
