package peers.flink;

import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import peers.FrameReader;
import peers.Run;

/** The minute and the user of a frame; drops what is none. */
final class FrameDeserializer implements KafkaRecordDeserializationSchema<Tuple2<Long, String>> {
  private static final long serialVersionUID = 1;

  @Override
  public void deserialize(
      ConsumerRecord<byte[], byte[]> record, Collector<Tuple2<Long, String>> out) {
    Run.read();
    FrameReader.Frame frame = FrameReader.read(record.value());
    if (frame == null) {
      Run.bad();
      return;
    }
    out.collect(Tuple2.of(frame.minute(), frame.uid()));
  }

  @Override
  public TypeInformation<Tuple2<Long, String>> getProducedType() {
    return Types.TUPLE(Types.LONG, Types.STRING);
  }
}
