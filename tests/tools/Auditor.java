import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Reads topics with Kafka's own Java client, so that what the tests believe about replies does not come from the
 * library under test.
 *
 * <pre>
 * Auditor BOOTSTRAP read TOPIC [read_committed|read_uncommitted]   every record up to the end of the log
 * Auditor BOOTSTRAP group GROUP                                    members, committed offsets and metadata, lag
 * Auditor BOOTSTRAP create TOPIC[:PARTITIONS]...                   replication factor 1
 * Auditor BOOTSTRAP exchange TOPIC ANSWERS VALUE                   write VALUE, wait for the next record of ANSWERS
 * Auditor BOOTSTRAP produce TOPIC RECORD                            RECORD: base64 of {"value", "key", "headers":
 *                                                                  [[name, value]], "partition", "transaction"}
 * Auditor BOOTSTRAP -                                              commands from standard input, one a line
 * </pre>
 *
 * Prints one JSON object a line. Each command ends with an object that has "done" or "error"; with a command on the
 * command line an error also makes the exit status 1.
 */
public final class Auditor {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final long LIMIT_SECONDS = 60;
  private static final short BROKERS_DEFAULT = -1; // replicas of a new topic

  private final String bootstrap;
  private final PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
  private Admin admin;
  private KafkaProducer<byte[], byte[]> producer;
  private final Map<String, KafkaConsumer<byte[], byte[]>> waiting = new HashMap<>();

  private Auditor(String bootstrap) {
    this.bootstrap = bootstrap;
  }

  public static void main(String[] args) throws Exception {
    if (args.length < 2) {
      System.err.println("usage: Auditor BOOTSTRAP read|group|create|exchange|- ARGUMENTS");
      System.exit(2);
    }
    Auditor auditor = new Auditor(args[0]);
    boolean good = true;
    if (args[1].equals("-")) {
      BufferedReader lines =
          new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        auditor.run(Arrays.asList(line.trim().split("\\s+")));
      }
    } else {
      good = auditor.run(Arrays.asList(args).subList(1, args.length));
    }
    auditor.close();
    System.exit(good ? 0 : 1);
  }

  private boolean run(List<String> command) {
    ObjectNode end = JSON.createObjectNode();
    try {
      List<String> rest = command.subList(1, command.size());
      switch (command.get(0)) {
        case "read":
          end = read(rest.get(0), rest.size() > 1 ? rest.get(1) : "read_committed");
          break;
        case "group":
          end = group(rest.get(0));
          break;
        case "create":
          end = create(rest);
          break;
        case "produce":
          end = produce(rest.get(0), JSON.readTree(Base64.getDecoder().decode(rest.get(1))));
          break;
        case "exchange":
          end = exchange(rest.get(0), rest.get(1), rest.get(2));
          break;
        default:
          end.put("error", "unknown command " + command.get(0));
      }
    } catch (Exception problem) {
      Throwable cause = problem instanceof ExecutionException ? problem.getCause() : problem;
      end.removeAll();
      Throwable root = cause;
      while (root.getCause() != null) {
        root = root.getCause();
      }
      end.put("error", root == cause ? cause.toString() : cause + ": " + root);
    }
    print(end);
    return !end.has("error");
  }

  /** Prints every record below the end offsets, which under read_committed are the last stable ones. */
  private ObjectNode read(String topic, String isolation) {
    Map<TopicPartition, Long> written = endOffsets(topic, "read_uncommitted");
    ObjectNode end = JSON.createObjectNode();
    int records = 0;
    try (KafkaConsumer<byte[], byte[]> consumer = consumer(isolation)) {
      List<TopicPartition> partitions = partitions(consumer, topic);
      consumer.assign(partitions);
      consumer.seekToBeginning(partitions);
      Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
      long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(LIMIT_SECONDS);
      // Transaction markers take offsets too, so only the position tells when a partition is finished.
      while (partitions.stream().anyMatch(p -> consumer.position(p) < ends.get(p))) {
        if (System.nanoTime() > deadline) {
          throw new IllegalStateException("end of " + topic + " not reached in time");
        }
        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(50))) {
          if (record.offset() < ends.get(new TopicPartition(topic, record.partition()))) {
            print(toJson(record));
            records++;
          }
        }
      }
      ArrayNode list = end.putArray("partitions");
      for (TopicPartition partition : partitions) {
        ObjectNode item = list.addObject();
        item.put("partition", partition.partition());
        item.put("end", ends.get(partition));
        item.put("written", written.get(partition));
      }
    }
    return end.put("done", "read").put("records", records);
  }

  private ObjectNode group(String name) throws Exception {
    ConsumerGroupDescription description =
        get(admin().describeConsumerGroups(List.of(name)).describedGroups().get(name));
    Map<TopicPartition, OffsetAndMetadata> committed =
        get(admin().listConsumerGroupOffsets(name).partitionsToOffsetAndMetadata());
    for (Map.Entry<TopicPartition, OffsetAndMetadata> entry : committed.entrySet()) {
      TopicPartition partition = entry.getKey();
      long end = endOffsets(partition.topic(), "read_committed").get(partition);
      ObjectNode line = JSON.createObjectNode();
      line.put("topic", partition.topic()).put("partition", partition.partition());
      line.put("committed", entry.getValue().offset()).put("metadata", entry.getValue().metadata());
      print(line.put("end", end).put("lag", end - entry.getValue().offset()));
    }
    ObjectNode end = JSON.createObjectNode();
    end.put("done", "group").put("state", description.groupState().toString());
    return end.put("members", description.members().size());
  }

  private ObjectNode create(List<String> topics) throws Exception {
    List<NewTopic> wanted = new ArrayList<>();
    for (String topic : topics) {
      String[] parts = topic.split(":");
      int partitions = parts.length > 1 ? Integer.parseInt(parts[1]) : 1;
      wanted.add(new NewTopic(parts[0], partitions, BROKERS_DEFAULT));
    }
    get(admin().createTopics(wanted).all());
    return JSON.createObjectNode().put("done", "create");
  }

  /**
   * Writes one record. Its bytes are base64 in the JSON; "transaction" is "commit" or "abort": the record is written in
   * a transaction of its own that ends so.
   */
  private ObjectNode produce(String topic, JsonNode record) throws Exception {
    Map<String, Object> properties = new HashMap<>();
    properties.put("bootstrap.servers", bootstrap);
    if (record.has("transaction")) {
      properties.put("transactional.id", "auditor-" + UUID.randomUUID());
    }
    Integer partition = record.has("partition") ? record.get("partition").intValue() : null;
    ProducerRecord<byte[], byte[]> wanted =
        new ProducerRecord<>(topic, partition, decode(record.get("key")), decode(record.get("value")));
    for (JsonNode header : record.path("headers")) {
      wanted.headers().add(header.get(0).asText(), decode(header.get(1)));
    }
    ByteArraySerializer bytes = new ByteArraySerializer();
    try (KafkaProducer<byte[], byte[]> writer =
        new KafkaProducer<>(properties, bytes, new ByteArraySerializer())) {
      if (!record.has("transaction")) {
        writer.send(wanted).get(LIMIT_SECONDS, TimeUnit.SECONDS);
      } else {
        writer.initTransactions();
        writer.beginTransaction();
        writer.send(wanted).get(LIMIT_SECONDS, TimeUnit.SECONDS);
        if (record.get("transaction").asText().equals("abort")) {
          writer.abortTransaction();
        } else {
          writer.commitTransaction();
        }
      }
    }
    return JSON.createObjectNode().put("done", "produce");
  }

  private static byte[] decode(JsonNode base64) {
    return base64 == null || base64.isNull() ? null : Base64.getDecoder().decode(base64.asText());
  }

  /** Measures a round trip with clients that are connected before the clock starts. */
  private ObjectNode exchange(String topic, String answers, String value) throws Exception {
    KafkaConsumer<byte[], byte[]> consumer = waiting.get(answers);
    if (consumer == null) {
      consumer = consumer("read_committed");
      waiting.put(answers, consumer);
      List<TopicPartition> partitions = partitions(consumer, answers);
      consumer.assign(partitions);
      consumer.seekToEnd(partitions);
      partitions.forEach(consumer::position);
    }
    if (producer == null) {
      Map<String, Object> properties = new HashMap<>();
      properties.put("bootstrap.servers", bootstrap);
      properties.put("linger.ms", "0");
      ByteArraySerializer bytes = new ByteArraySerializer();
      producer = new KafkaProducer<>(properties, bytes, new ByteArraySerializer());
    }
    producer.partitionsFor(topic);
    byte[] bytes = value.getBytes(StandardCharsets.UTF_8);
    long sent = System.currentTimeMillis();
    long begin = System.nanoTime();
    producer.send(new ProducerRecord<>(topic, bytes));
    long deadline = begin + TimeUnit.SECONDS.toNanos(LIMIT_SECONDS);
    while (System.nanoTime() < deadline) {
      for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
        long nanoseconds = System.nanoTime() - begin;
        print(toJson(record));
        ObjectNode end = JSON.createObjectNode().put("done", "exchange").put("sent", sent);
        return end.put("milliseconds", nanoseconds / 1e6);
      }
    }
    throw new IllegalStateException("no answer on " + answers + " in time");
  }

  private Map<TopicPartition, Long> endOffsets(String topic, String isolation) {
    try (KafkaConsumer<byte[], byte[]> consumer = consumer(isolation)) {
      return consumer.endOffsets(partitions(consumer, topic));
    }
  }

  private static List<TopicPartition> partitions(
      KafkaConsumer<byte[], byte[]> consumer, String topic) {
    List<TopicPartition> result = new ArrayList<>();
    for (PartitionInfo info : consumer.partitionsFor(topic)) {
      result.add(new TopicPartition(topic, info.partition()));
    }
    if (result.isEmpty()) {
      throw new IllegalStateException("no topic " + topic);
    }
    result.sort((a, b) -> Integer.compare(a.partition(), b.partition()));
    return result;
  }

  private KafkaConsumer<byte[], byte[]> consumer(String isolation) {
    Properties properties = new Properties();
    properties.put("bootstrap.servers", bootstrap);
    properties.put("isolation.level", isolation);
    properties.put("enable.auto.commit", "false");
    properties.put("auto.offset.reset", "none");
    properties.put("allow.auto.create.topics", "false");
    properties.put("fetch.max.wait.ms", "50");
    properties.put("default.api.timeout.ms", "20000");
    properties.put("request.timeout.ms", "10000");
    ByteArrayDeserializer bytes = new ByteArrayDeserializer();
    return new KafkaConsumer<>(properties, bytes, new ByteArrayDeserializer());
  }

  private Admin admin() {
    if (admin == null) {
      Map<String, Object> properties = new HashMap<>();
      properties.put("bootstrap.servers", bootstrap);
      properties.put("default.api.timeout.ms", "20000");
      properties.put("request.timeout.ms", "10000");
      admin = Admin.create(properties);
    }
    return admin;
  }

  private static <T> T get(org.apache.kafka.common.KafkaFuture<T> future) throws Exception {
    return future.get(LIMIT_SECONDS, TimeUnit.SECONDS);
  }

  private static ObjectNode toJson(ConsumerRecord<byte[], byte[]> record) {
    ObjectNode line = JSON.createObjectNode();
    line.put("topic", record.topic()).put("partition", record.partition());
    line.put("offset", record.offset()).put("timestamp", record.timestamp());
    putBytes(line, "key", record.key());
    ArrayNode headers = line.putArray("headers");
    for (Header header : record.headers()) {
      putBytes(headers.addObject().put("name", header.key()), "value", header.value());
    }
    putBytes(line, "value", record.value());
    return line;
  }

  /** Text as NAME, anything that is not UTF-8 as NAME_base64, null as null. */
  private static void putBytes(ObjectNode target, String name, byte[] bytes) {
    if (bytes == null) {
      target.putNull(name);
      return;
    }
    try {
      target.put(
          name, StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString());
    } catch (CharacterCodingException notText) {
      target.put(name + "_base64", Base64.getEncoder().encodeToString(bytes));
    }
  }

  private void print(ObjectNode line) {
    out.println(line);
    out.flush();
  }

  private void close() {
    if (admin != null) {
      admin.close(Duration.ofSeconds(1));
    }
    if (producer != null) {
      producer.close(Duration.ofSeconds(1));
    }
    waiting.values().forEach(KafkaConsumer::close);
  }
}
