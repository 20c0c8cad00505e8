package peers.flink;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Comparator;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Stream;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.KafkaSourceBuilder;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.streaming.api.datastream.SingleOutputStreamOperator;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.util.OutputTag;
import org.apache.kafka.common.TopicPartition;
import peers.Run;
import peers.Task;

/**
 * Unique users per minute with Flink's DataStream API, in a cluster inside this process.
 *
 * <p>Keyed by minute, the users of each in a map on the heap. The watermark is a day behind the
 * newest frame, and what comes after it goes to a side output. With --state the state is
 * checkpointed every 5 s, exactly once, and another launch goes on from the newest checkpoint;
 * which one that is, a Flink cluster keeps in its high availability store.
 */
public final class UniqueUsers {
  private static final Duration LATENESS = Duration.ofDays(1);
  private static final long FOREVER = 1_000_000_000;

  private UniqueUsers() {}

  /** Counts, and writes the result. */
  public static void main(String[] arguments) throws Exception {
    Task task = Task.of(arguments);
    Map<String, String> settings = settings(task);
    StreamExecutionEnvironment environment =
        StreamExecutionEnvironment.getExecutionEnvironment(Configuration.fromMap(settings));
    build(environment, task);
    environment.execute("unique-users");
    settings.putAll(consumer());
    Run.finish(task, settings);
    System.exit(0); // without a wait for threads that idle
  }

  private static void build(StreamExecutionEnvironment environment, Task task) {
    OutputTag<Tuple2<Long, String>> late =
        new OutputTag<>("late", Types.TUPLE(Types.LONG, Types.STRING));
    WatermarkStrategy<Tuple2<Long, String>> watermarks =
        WatermarkStrategy.<Tuple2<Long, String>>forBoundedOutOfOrderness(LATENESS)
            .withTimestampAssigner((frame, recordTime) -> frame.f0 * 1_000);
    SingleOutputStreamOperator<Tuple2<Long, Long>> counts =
        environment
            .fromSource(source(task), watermarks, "feed")
            .uid("feed")
            .keyBy(frame -> frame.f0, Types.LONG)
            .process(new CountUsers(late))
            .returns(Types.TUPLE(Types.LONG, Types.LONG))
            .uid("users");
    counts
        .getSideOutput(late)
        .map(
            frame -> {
              Run.late();
              return frame.f0;
            })
        .returns(Types.LONG)
        .sinkTo(new DiscardingSink<>());
    SingleOutputStreamOperator<Tuple2<Long, Long>> published =
        counts
            .map(
                count -> {
                  Run.published(count.f0, count.f1);
                  return count;
                })
            .returns(Types.TUPLE(Types.LONG, Types.LONG));
    if (task.counts() == null) {
      published.sinkTo(new DiscardingSink<>());
    } else {
      published.sinkTo(sink(task)).uid("counts");
    }
  }

  private static KafkaSource<Tuple2<Long, String>> source(Task task) {
    KafkaSourceBuilder<Tuple2<Long, String>> source =
        KafkaSource.<Tuple2<Long, String>>builder()
            .setBootstrapServers(task.bootstrapServers())
            .setTopics(task.topic())
            .setGroupId(task.name())
            .setStartingOffsets(OffsetsInitializer.earliest())
            .setDeserializer(new FrameDeserializer());
    consumer().forEach(source::setProperty);
    if (task.frames() < FOREVER) {
      TopicPartition only = new TopicPartition(task.topic(), 0);
      source.setBounded(OffsetsInitializer.offsets(Map.of(only, task.frames())));
    }
    return source.build();
  }

  private static KafkaSink<Tuple2<Long, Long>> sink(Task task) {
    return KafkaSink.<Tuple2<Long, Long>>builder()
        .setBootstrapServers(task.bootstrapServers())
        .setDeliveryGuarantee(DeliveryGuarantee.AT_LEAST_ONCE) // the newest count of a minute wins
        .setRecordSerializer(new CountRecord(task.counts()))
        .build();
  }

  private static Map<String, String> consumer() {
    return Map.of(
        "max.partition.fetch.bytes", Integer.toString(4 * 1024 * 1024), "max.poll.records", "5000");
  }

  private static Map<String, String> settings(Task task) throws IOException {
    Map<String, String> settings = new HashMap<>();
    settings.put("parallelism.default", "1");
    settings.put("pipeline.object-reuse", "true");
    settings.put("state.backend.type", "hashmap");
    settings.put("taskmanager.memory.network.max", "32m");
    settings.put("taskmanager.memory.managed.size", "0");
    if (task.state() != null) {
      settings.put("execution.checkpointing.dir", task.state().toUri().toString());
      settings.put("execution.checkpointing.interval", "5 s");
      settings.put("execution.checkpointing.mode", "EXACTLY_ONCE");
      settings.put(
          "execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION");
      settings.put("execution.checkpointing.checkpoints-after-tasks-finish", "false");
      newestCheckpoint(task.state())
          .ifPresent(
              path -> settings.put("execution.state-recovery.path", path.toUri().toString()));
    }
    return settings;
  }

  private static Optional<Path> newestCheckpoint(Path state) throws IOException {
    if (!Files.exists(state)) {
      return Optional.empty();
    }
    try (Stream<Path> files = Files.walk(state)) {
      return files
          .filter(file -> file.endsWith("_metadata"))
          .max(Comparator.comparing(file -> file.toFile().lastModified()))
          .map(Path::getParent);
    }
  }
}
