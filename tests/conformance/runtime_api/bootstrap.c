/* A runtime on bare sockets: one connection, kept alive; answers {"echo":EVENT}, or an error to the event `fail`. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

static char answer[65536];

static int connect_to(const char *address) {
    char host[64];
    struct sockaddr_in to = {.sin_family = AF_INET};
    const char *colon = strchr(address, ':');
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (colon == NULL || colon - address >= (long)sizeof host)
        exit(2);
    memcpy(host, address, colon - address);
    host[colon - address] = 0;
    to.sin_port = htons(atoi(colon + 1));
    inet_pton(AF_INET, host, &to.sin_addr);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        exit(3);
    return fd;
}

/* Sends a request and reads one whole answer; returns its body, which is ended by a NUL. */
static char *ask(int fd, const char *request) {
    size_t length = 0;
    char *body, *field;
    if (write(fd, request, strlen(request)) != (ssize_t)strlen(request))
        exit(4);
    for (;;) {
        ssize_t got = read(fd, answer + length, sizeof answer - 1 - length);
        if (got <= 0)
            exit(5);
        length += got;
        answer[length] = 0;
        body = strstr(answer, "\r\n\r\n");
        if (body == NULL)
            continue;
        field = strcasestr(answer, "\r\nContent-Length: ");
        if (field == NULL)
            exit(6);
        if (answer + length >= body + 4 + atoi(field + 18))
            return body + 4;
    }
}

int main(void) {
    static char request[70000], document[66000], id[128];
    int fd = connect_to(getenv("AWS_LAMBDA_RUNTIME_API"));
    for (;;) {
        char *event = ask(fd, "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: api\r\n\r\n");
        char *field = strcasestr(answer, "\r\nLambda-Runtime-Aws-Request-Id: ");
        int failed = strcmp(event, "fail") == 0;
        if (field == NULL || sscanf(field + 33, "%127[^\r]", id) != 1)
            return 7;
        if (failed)
            strcpy(document, "{\"errorMessage\":\"told to\",\"errorType\":\"Function.Failed\"}");
        else
            snprintf(document, sizeof document, "{\"echo\":%s}", event);
        snprintf(request, sizeof request,
                 "POST /2018-06-01/runtime/invocation/%s/%s HTTP/1.1\r\nHost: api\r\n%sContent-Length: %zu\r\n\r\n%s", id,
                 failed ? "error" : "response", failed ? "Lambda-Runtime-Function-Error-Type: Function.Failed\r\n" : "",
                 strlen(document), document);
        ask(fd, request);
        if (strstr(answer, "HTTP/1.1 202 ") != answer)
            return 8;
    }
}
