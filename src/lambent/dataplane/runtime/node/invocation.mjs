// One invocation: build the context, call the handler as it wants to be called, give its answer as JSON text.

const CALLBACKS = Number(process.versions.node.split(".")[0]) < 24;
const STREAMING = Symbol.for("aws.lambda.runtime.handler.streaming");

globalThis.awslambda = {
  streamifyResponse(handler) {
    handler[STREAMING] = true;
    return handler;
  },
  HttpResponseStream: { from: (stream) => stream },
};

export async function invoke(handler, call) {
  try {
    const event = JSON.parse(call.event);
    if (handler[STREAMING]) return { body: await collect(handler, event, makeContext(call)) };
    const result = await run(handler, event, call);
    return { body: encode(result) };
  } catch (error) {
    return { error: error ?? new Error("the handler threw nothing") };
  }
}

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
    const finish = (error, result) => {
      if (error !== undefined && error !== null) reject(error);
      else if (context.callbackWaitsForEmptyEventLoop) whenIdle(() => resolve(result));
      else resolve(result);
    };
    if (CALLBACKS) {
      context.done = finish;
      context.succeed = (result) => finish(null, result);
      context.fail = (error) => finish(error ?? "handled");
    } else if (handler.length >= 3) {
      throw Object.assign(
        new Error("ERROR: AWS Lambda does not support callback-based function handlers when using Node.js 24 and later."),
        { name: "Runtime.CallbackHandlerDeprecated" },
      );
    }
    const returned = CALLBACKS ? handler(event, context, finish) : handler(event, context);
    if (typeof returned?.then === "function") returned.then(resolve, reject);
    else if (handler.length < 3 && (returned !== undefined || !CALLBACKS)) resolve(returned);
    else if (handler.length < 2) resolve(returned);
  });
}

// What keeps the loop alive besides our own connection: timers, sockets, files that the handler left open.
function whenIdle(then) {
  const own = new Set(["TCPSocketWrap", "PipeWrap", "TTYWrap"]);
  const check = () => {
    const busy = process.getActiveResourcesInfo().filter((name) => !own.has(name) && name !== "Immediate");
    if (busy.length) setTimeout(check, 1).unref();
    else then();
  };
  setImmediate(check);
}

async function collect(handler, event, context) {
  const { PassThrough } = await import("node:stream");
  const stream = new PassThrough();
  stream.setContentType = () => {};
  const chunks = [];
  const ended = new Promise((resolve, reject) => {
    stream.on("data", (chunk) => chunks.push(chunk));
    stream.on("end", resolve);
    stream.on("error", reject);
  });
  await handler(event, stream, context);
  await ended;
  return Buffer.concat(chunks);
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
