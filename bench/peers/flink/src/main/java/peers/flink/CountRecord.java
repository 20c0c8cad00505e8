package peers.flink;

import java.nio.charset.StandardCharsets;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.kafka.clients.producer.ProducerRecord;

/** A count as a record with its minute as the key, so that the newest one replaces the others. */
final class CountRecord implements KafkaRecordSerializationSchema<Tuple2<Long, Long>> {
  private static final long serialVersionUID = 1;

  private final String topic;

  CountRecord(String topic) {
    this.topic = topic;
  }

  @Override
  public ProducerRecord<byte[], byte[]> serialize(
      Tuple2<Long, Long> count, KafkaSinkContext context, Long time) {
    return new ProducerRecord<>(topic, text(count.f0), text(count.f1));
  }

  private static byte[] text(long number) {
    return Long.toString(number).getBytes(StandardCharsets.UTF_8);
  }
}
