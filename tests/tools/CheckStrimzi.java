import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.MappingIterator;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.dataformat.yaml.YAMLFactory;
import com.fasterxml.jackson.dataformat.yaml.YAMLParser;
import io.strimzi.api.kafka.model.topic.KafkaTopic;
import io.strimzi.api.kafka.model.user.KafkaUser;
import java.io.File;
import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;

/**
 * CheckStrimzi FILE...: read every KafkaTopic and KafkaUser into Strimzi's own classes. A value of the wrong type or word
 * fails there; a key that Strimzi does not know lands in a class's "additional properties" and is printed. Exit code 1
 * if there is any problem; the last line counts the resources.
 */
public final class CheckStrimzi {
  private static final List<String> problems = new ArrayList<>();

  private CheckStrimzi() {}

  public static void main(String[] files) throws Exception {
    ObjectMapper mapper = new ObjectMapper(new YAMLFactory());
    int count = 0;
    for (String file : files) {
      try (YAMLParser parser = new YAMLFactory().createParser(new File(file));
          MappingIterator<JsonNode> documents = mapper.readValues(parser, JsonNode.class)) {
        while (documents.hasNext()) {
          JsonNode document = documents.next();
          String name = document.at("/metadata/name").asText();
          Class<?> type =
              switch (document.path("kind").asText()) {
                case "KafkaTopic" -> KafkaTopic.class;
                case "KafkaUser" -> KafkaUser.class;
                default -> null;
              };
          if (type == null || !document.path("apiVersion").asText().equals("kafka.strimzi.io/v1")) {
            problems.add(file + ": " + name + ": not a KafkaTopic or KafkaUser of kafka.strimzi.io/v1");
          } else {
            walk(file + ": " + name, mapper.treeToValue(document, type));
          }
          count++;
        }
      }
    }
    problems.forEach(System.out::println);
    System.out.println(count + " resources, " + problems.size() + " problems");
    System.exit(problems.isEmpty() && count > 0 ? 0 : 1);
  }

  private static void walk(String path, Object value) throws ReflectiveOperationException {
    if (value instanceof Collection<?> items) {
      for (Object item : items) {
        walk(path, item);
      }
    }
    if (value == null || !value.getClass().getName().startsWith("io.strimzi.")) {
      return;
    }
    for (Method method : value.getClass().getMethods()) {
      if (!method.getName().startsWith("get") || method.getParameterCount() != 0) {
        continue;
      }
      Object property = method.invoke(value);
      if (method.getName().equals("getAdditionalProperties")) {
        ((Map<?, ?>) property).keySet().forEach(key -> problems.add(path + ": unknown key " + key));
      } else if (!(value instanceof Enum)) {
        walk(path, property);
      }
    }
  }
}
