// The client of the Lambda Runtime API, version 2018-06-01.
import { createRequire } from "node:module";

// Not imported: that asks the module for each of its names, and some of them (WebSocket) load 20 ms of others.
const http = createRequire(import.meta.url)("node:http");

const PREFIX = "/2018-06-01/runtime";

export class RuntimeApi {
  constructor(address) {
    const at = address.lastIndexOf(":");
    this.host = address.slice(0, at);
    this.port = Number(address.slice(at + 1));
    // `next` waits for as long as nobody invokes, so no time limit.
    this.agent = new http.Agent({ keepAlive: true, maxSockets: 1, noDelay: true });
  }

  async next() {
    const { headers, body } = await this.request("GET", "/invocation/next");
    return {
      requestId: headers["lambda-runtime-aws-request-id"],
      deadlineMs: Number(headers["lambda-runtime-deadline-ms"]),
      invokedFunctionArn: headers["lambda-runtime-invoked-function-arn"],
      traceId: headers["lambda-runtime-trace-id"],
      clientContext: headers["lambda-runtime-client-context"],
      identity: headers["lambda-runtime-cognito-identity"],
      event: body,
    };
  }

  postResponse(requestId, body) {
    return this.request("POST", `/invocation/${requestId}/response`, body);
  }

  // An answer in pieces: the request to write to, and the promise of its own answer.
  openResponse(requestId, contentType) {
    const headers = {
      "Content-Type": cleanHeader(contentType),
      "Lambda-Runtime-Function-Response-Mode": "streaming",
      "Transfer-Encoding": "chunked",
      Trailer: "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body",
    };
    let request;
    const answered = new Promise((resolve, reject) => {
      request = this.open("POST", `/invocation/${requestId}/response`, headers, resolve, reject);
    });
    request.flushHeaders();
    return { request, answered };
  }

  postError(requestId, fault) {
    return this.request("POST", `/invocation/${requestId}/error`, JSON.stringify(fault), fault.errorType);
  }

  postInitError(fault) {
    return this.request("POST", "/init/error", JSON.stringify(fault), fault.errorType);
  }

  request(method, path, body, errorType) {
    const headers = {};
    if (body !== undefined) {
      headers["Content-Type"] = "application/json";
      headers["Content-Length"] = Buffer.byteLength(body);
    }
    if (errorType !== undefined) headers["Lambda-Runtime-Function-Error-Type"] = cleanHeader(errorType);
    return new Promise((resolve, reject) => this.open(method, path, headers, resolve, reject).end(body));
  }

  open(method, path, headers, resolve, reject) {
    const options = { host: this.host, port: this.port, agent: this.agent, method, path: PREFIX + path, headers };
    const request = http.request(options, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("end", () => resolve({ headers: response.headers, body: Buffer.concat(chunks).toString() }));
      response.on("error", reject);
    });
    request.on("error", reject);
    return request;
  }
}

function cleanHeader(text) {
  return String(text).replace(/[^\x20-\x7e]/g, "?").slice(0, 256);
}
