package peers.streams;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.Repartitioned;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import peers.FrameReader;
import peers.Run;
import peers.Task;

/**
 * Unique users per minute with Kafka Streams.
 *
 * <p>A frame goes through a topic with its minute as the key, so that one task has all of a minute.
 * The users of the minutes are in a store in memory with a changelog topic, and a table counts
 * those that are new. Exactly once: after a crash without it, a user may be in the first store and
 * not in the second.
 */
public final class UniqueUsers {
  private static final int PARTITIONS = 1;

  private UniqueUsers() {}

  /** Counts, and writes the result. */
  public static void main(String[] arguments) throws Exception {
    Task task = Task.of(arguments);
    Path state = task.state() != null ? task.state() : Files.createTempDirectory("streams");
    Map<String, Object> settings = settings(task, state);
    Properties properties = new Properties();
    properties.putAll(settings);
    KafkaStreams streams = new KafkaStreams(topology(task), properties);
    streams.setUncaughtExceptionHandler(
        failure -> {
          failure.printStackTrace();
          return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.start();
    Run.await(task.frames());
    streams.close();
    Run.finish(task, settings);
  }

  private static Topology topology(Task task) {
    StreamsBuilder builder = new StreamsBuilder();
    builder.stream(task.topic(), Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
        .process(ByMinute::new)
        .repartition(
            Repartitioned.with(Serdes.Long(), Serdes.String())
                .withName("minutes")
                .withNumberOfPartitions(PARTITIONS))
        .processValues(new FirstSeen.Supplier())
        .groupByKey(Grouped.with(Serdes.Long(), Serdes.String()))
        .count(
            // On disk, since only then does a process keep its id, by which the next launch aborts
            // the
            // transactions of one that was killed instead of waiting for their time-out.
            Materialized.<Long, Long, KeyValueStore<Bytes, byte[]>>as("counts")
                .withKeySerde(Serdes.Long())
                .withValueSerde(Serdes.Long())
                .withCachingEnabled())
        .toStream()
        .peek(Run::published)
        .map((minute, users) -> KeyValue.pair(minute.toString(), users.toString()))
        .to(task.counts(), Produced.with(Serdes.String(), Serdes.String()));
    return builder.build();
  }

  private static Map<String, Object> settings(Task task, Path state) {
    Map<String, Object> settings = new HashMap<>();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, task.name());
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, task.bootstrapServers());
    settings.put(StreamsConfig.STATE_DIR_CONFIG, state.toString());
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
    settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
    settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
    settings.put(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG, 4 * 1024 * 1024);
    settings.put(ConsumerConfig.MAX_POLL_RECORDS_CONFIG, 5_000);
    settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
    settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 256 * 1024);
    settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 50);
    // a killed process leaves a transaction open, and what follows it waits for so long
    settings.put(StreamsConfig.producerPrefix(ProducerConfig.TRANSACTION_TIMEOUT_CONFIG), 10_000);
    // so that another launch takes over at once from one that was killed
    settings.put(ConsumerConfig.GROUP_INSTANCE_ID_CONFIG, task.name());
    return settings;
  }

  /** The minute and the user of a frame; drops what is none. */
  private static final class ByMinute implements Processor<byte[], byte[], Long, String> {
    private ProcessorContext<Long, String> context;

    @Override
    public void init(ProcessorContext<Long, String> context) {
      this.context = context;
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
      Run.read();
      FrameReader.Frame frame = FrameReader.read(record.value());
      if (frame == null) {
        Run.bad();
        return;
      }
      context.forward(record.withKey(frame.minute()).withValue(frame.uid()));
    }
  }
}
