"""Rates, axes, units and colour ranges of the whole package. Read this first.

Letters in shape comments: F frames of a clip, B frames of a batch, N Gaussians, H and W image
height and width, C feature channels, V mesh vertices, K spherical-harmonics coefficients, T time
steps or audio samples, S feature steps.

Head space (of Gaussians and of the face mesh): x to the right of the image for a head that looks
at the camera, y up, z out of the face towards the camera. One unit is about 10 cm (a face spans
about +-0.8).

Tracker camera (`track_params.pt`, as in the model family): x_cam = R(euler) @ x_head + trans. The
camera looks along -z; trans_z is about -7 for a common lens, and farther for a long one.
R = A(euler_0) @ B(euler_1) @ C(euler_2), see `data/cameras.py`.

Render camera (`splat`): x right, y down, z forward, i.e. diag(1, -1, -1) @ [R | trans]. The
principal point is the image centre. Pixel centres are at whole numbers, the first at 0:
u = focal * x / z + (W - 1) / 2.

Images: RGB. In files and between stages uint8 [H, W, 3] (0 to 255); inside models float32
[3, H, W] in [0, 1].

Audio: float32 mono in [-1, 1] at SAMPLE_RATE. Speech features on disk: float32
[F, FEATURE_WINDOW, C], centred on the frame's time.
"""

# Frames/s of every dataset and every rendered video.
FPS = 25
# Hz of all audio inside the package.
SAMPLE_RATE = 16_000
# Speech feature steps/s: 2 a frame.
FEATURE_RATE = 50
STEPS_PER_FRAME = FEATURE_RATE // FPS
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
SAMPLES_PER_STEP = SAMPLE_RATE // FEATURE_RATE

# Steps of one frame's feature window: 0.32 s, centred on the frame.
FEATURE_WINDOW = 16
# Feature windows that the audio attention reads for frame i: those of frames i-4 to i+3.
ATTENTION_WINDOW = 8
ATTENTION_PAST = 4
ATTENTION_FUTURE = ATTENTION_WINDOW - 1 - ATTENTION_PAST
ATTENTION_OFFSETS = tuple(range(-ATTENTION_PAST, ATTENTION_FUTURE + 1))
# A network that reads the mouth code reads the row of frame i alone: it stands in all eight places.
CODE_OFFSETS = (0,) * ATTENTION_WINDOW

# Side of a rasterizer tile, px.
TILE = 16
# Added to both diagonal entries of a 2-D covariance, px^2 (EWA low-pass).
LOW_PASS = 0.3
# View-space depth under which a Gaussian is culled.
NEAR_PLANE = 0.2
# Smaller contributions of a Gaussian to a pixel are skipped.
ALPHA_MIN = 1.0 / 255.0
ALPHA_MAX = 0.99
# Blending stops before the transmittance would fall under this.
TRANSMITTANCE_MIN = 1e-4

# The canonical face mesh, in cm, is divided by this to give head-space units.
CENTIMETRES_PER_UNIT = 10.0

# Class colours of parsing/%d.png as RGB (the model family's palette, since AD-NeRF).
PARSING_HEAD = (0, 0, 255)
PARSING_NECK = (0, 255, 0)
PARSING_TORSO = (255, 0, 0)
PARSING_BACKGROUND = (255, 255, 255)
