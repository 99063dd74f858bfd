"""Rates, axes, units and colour ranges of the whole package. Read this first.

Letters in shape comments: F frames of a clip, B frames of a batch, N Gaussians, H and W picture
height and width, C feature channels, V mesh vertices, K spherical-harmonics coefficients, T time
steps.

Head space (the space of Gaussians and of the face mesh): x to the right of the picture for a head
that looks at the camera, y up, z out of the face towards the camera; one unit is about 10 cm (a
face spans about +-0.8). Tracker camera (`track_params.pt`, the family's): x_cam = R(euler) @ x_head
+ trans, camera looks along -z, trans_z is about -7 through a usual lens, farther through a long
one; R = A(euler_0) @ B(euler_1) @ C(euler_2), see `data/cameras.py`. Render camera (`splat`): x
right, y down, z forward, i.e. diag(1, -1, -1) @ [R | trans]; principal point in the picture centre;
pixel centres at whole numbers, the first at 0: u = focal * x / z + (W - 1) / 2. Pictures: RGB. In
files and between stages uint8 [H, W, 3] (0 to 255); inside models float32 [3, H, W] in [0, 1].
Sound: float32 mono [-1, 1] at SAMPLE_RATE. Speech features on disk: float32 [F, FEATURE_WINDOW, C],
time in the middle.
"""

FPS = 25  # frames/s of every dataset and every video made
SAMPLE_RATE = 16_000  # Hz of all sound inside the package
FEATURE_RATE = 50  # speech feature steps/s = 2 a frame
STEPS_PER_FRAME = FEATURE_RATE // FPS
FEATURE_WINDOW = 16  # steps of one frame's window: 0.32 s centred on the frame
ATTENTION_WINDOW = 8  # windows i-4 .. i+3 that the audio attention sees for frame i
ATTENTION_PAST = 4

TILE = 16  # px, side of a rasterizer tile
LOW_PASS = 0.3  # px^2 added to both diagonal entries of a 2-D covariance (EWA low-pass)
NEAR_PLANE = 0.2  # view-space depth under which a Gaussian is culled
ALPHA_MIN = 1.0 / 255.0  # smaller contributions are skipped
ALPHA_MAX = 0.99
TRANSMITTANCE_MIN = 1e-4  # blending stops before the transmittance would fall under this

CENTIMETRES_PER_UNIT = 10.0  # head-space units: the canonical face mesh in cm divided by this

# Class colours of parsing/%d.png as RGB (the family's palette, AD-NeRF onward).
PARSING_HEAD = (0, 0, 255)
PARSING_NECK = (0, 255, 0)
PARSING_TORSO = (255, 0, 0)
PARSING_BACKGROUND = (255, 255, 255)
