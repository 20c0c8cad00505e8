package peers;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadFeature;
import java.io.IOException;

/** Reads the two fields of a frame that count, and checks that the rest is JSON. */
public final class FrameReader {
  private static final JsonFactory JSON =
      JsonFactory.builder()
          .configure(JsonFactory.Feature.INTERN_FIELD_NAMES, false)
          .disable(StreamReadFeature.AUTO_CLOSE_SOURCE)
          .build();
  private static final long NONE = Long.MIN_VALUE;

  private FrameReader() {}

  /**
   * A frame.
   *
   * @param minute the epoch second with which its minute begins
   */
  public record Frame(long minute, String uid) {}

  /** Returns null for an invalid frame. Of two equal keys the last one counts. */
  public static Frame read(byte[] json) {
    try (JsonParser parser = JSON.createParser(json)) {
      if (parser.nextToken() != JsonToken.START_OBJECT) {
        return null;
      }
      String uid = null;
      long ts = NONE;
      String name;
      while ((name = parser.nextFieldName()) != null) {
        JsonToken value = parser.nextToken();
        if (name.equals("uid")) {
          uid = value == JsonToken.VALUE_STRING ? parser.getText() : null;
        } else if (name.equals("ts")) {
          ts = value == JsonToken.VALUE_NUMBER_INT ? parser.getLongValue() : NONE;
        }
        parser.skipChildren();
      }
      boolean whole = parser.nextToken() == null;
      return whole && uid != null && ts != NONE
          ? new Frame(ts - Math.floorMod(ts, 60L), uid)
          : null;
    } catch (IOException noFrame) {
      return null;
    }
  }
}
