package peers.streams;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.FixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorContext;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorSupplier;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;
import peers.Run;

/** Lets a user through once in each minute, and a frame that is more than a day late never. */
final class FirstSeen implements FixedKeyProcessor<Long, String, String> {
  private static final String STORE = "users";
  private static final long LATENESS_SECONDS = 86_400;
  private static final Duration FORGET_EVERY = Duration.ofMinutes(1);
  private static final byte[] SEEN = {};

  private FixedKeyProcessorContext<Long, String> context;
  private KeyValueStore<Bytes, byte[]> users;
  private long newest = Long.MIN_VALUE / 2;

  @Override
  public void init(FixedKeyProcessorContext<Long, String> context) {
    this.context = context;
    users = context.getStateStore(STORE);
    try (KeyValueIterator<Bytes, byte[]> fromTheEnd = users.reverseAll()) {
      if (fromTheEnd.hasNext()) {
        newest = ByteBuffer.wrap(fromTheEnd.next().key.get()).getLong();
      }
    }
    context.schedule(FORGET_EVERY, PunctuationType.WALL_CLOCK_TIME, now -> forget());
  }

  @Override
  public void process(FixedKeyRecord<Long, String> frame) {
    long minute = frame.key();
    if (minute < newest - LATENESS_SECONDS) {
      Run.late();
      return;
    }
    newest = Math.max(newest, minute);
    if (users.putIfAbsent(entry(minute, frame.value()), SEEN) == null) {
      context.forward(frame);
    }
    Run.counted();
  }

  /** Deletes the minutes that nothing can come for. */
  private void forget() {
    Bytes before = entry(newest - LATENESS_SECONDS, "");
    try (KeyValueIterator<Bytes, byte[]> old = users.range(null, before)) {
      while (old.hasNext()) {
        KeyValue<Bytes, byte[]> each = old.next();
        users.delete(each.key);
      }
    }
  }

  /** The minute first, so that the entries of a minute are next to each other. */
  private static Bytes entry(long minute, String uid) {
    byte[] name = uid.getBytes(StandardCharsets.UTF_8);
    return Bytes.wrap(
        ByteBuffer.allocate(Long.BYTES + name.length).putLong(minute).put(name).array());
  }

  /** Makes one for each partition. */
  static final class Supplier implements FixedKeyProcessorSupplier<Long, String, String> {
    @Override
    public FixedKeyProcessor<Long, String, String> get() {
      return new FirstSeen();
    }

    @Override
    public Set<StoreBuilder<?>> stores() {
      return Set.of(
          Stores.keyValueStoreBuilder(
                  Stores.inMemoryKeyValueStore(STORE), Serdes.Bytes(), Serdes.ByteArray())
              .withLoggingEnabled(Map.of()));
    }
  }
}
