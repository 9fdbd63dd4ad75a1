// Answers that leave while the handler still writes them: `awslambda.streamifyResponse` and `HttpResponseStream`.
import { createRequire } from "node:module";

const { Writable } = createRequire(import.meta.url)("node:stream");

const INTEGRATION_TYPE = "application/vnd.awslambda.http-integration-response";
const STREAMING = Symbol.for("aws.lambda.runtime.handler.streaming");
const HIGH_WATER_MARK = Symbol.for("aws.lambda.runtime.handler.streaming.highWaterMark");
const BEFORE_FIRST_WRITE = Symbol("before the first write");

globalThis.awslambda = {
  streamifyResponse(handler, options) {
    handler[STREAMING] = "response";
    if (options?.highWaterMark !== undefined) handler[HIGH_WATER_MARK] = Number(options.highWaterMark);
    return handler;
  },
  HttpResponseStream: {
    from(stream, prelude) {
      stream.setContentType(INTEGRATION_TYPE);
      stream[BEFORE_FIRST_WRITE] = Buffer.concat([Buffer.from(JSON.stringify(prelude)), Buffer.alloc(8)]);
      return stream;
    },
  },
};

export const isStreaming = (handler) => Boolean(handler[STREAMING]);

// What the handler writes to. The request to the Runtime API begins with the first write, when the type is known.
export class ResponseStream extends Writable {
  constructor(handler, open) {
    super({ highWaterMark: handler[HIGH_WATER_MARK], decodeStrings: true });
    this.open = open;
    this.contentType = "application/octet-stream";
    this.upload = undefined;
  }

  setContentType(contentType) {
    if (this.upload) {
      throw Object.assign(new Error("Cannot set content-type, too late."), { name: "InvalidStreamingOperation" });
    }
    this.contentType = contentType;
  }

  get begun() {
    return this.upload !== undefined;
  }

  begin() {
    if (this.upload) return;
    this.upload = this.open(this.contentType);
    this.upload.answered.catch((error) => this.destroy(error));
    const before = this[BEFORE_FIRST_WRITE];
    if (before) this.upload.request.write(before);
  }

  _write(chunk, _encoding, done) {
    this.begin();
    this.upload.request.write(chunk, done);
  }

  _final(done) {
    this.begin();
    done();
  }

  // The invocation went well: its end is the end of the request.
  async finish() {
    this.begin();
    this.upload.request.end();
    await this.upload.answered;
  }

  // It failed in the midst of its answer: what went wrong stands at the end of the request.
  async fail(fault) {
    const body = Buffer.from(JSON.stringify(fault)).toString("base64");
    this.upload.request.addTrailers({
      "Lambda-Runtime-Function-Error-Type": String(fault.errorType).replace(/[^\x20-\x7e]/g, "?").slice(0, 256),
      "Lambda-Runtime-Function-Error-Body": body,
    });
    this.upload.request.end();
    await this.upload.answered;
  }
}
